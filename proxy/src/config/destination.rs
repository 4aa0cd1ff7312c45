use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::upstream_url::{InvalidUpstream, UpstreamUrl};

/// Where the requests of a site go: to one server, or to those of an `[[upstream]]`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub enum Destination {
    /// To this server.
    Server(UpstreamUrl),
    /// To the servers of the `[[upstream]]` of this name.
    Upstream(UpstreamName),
}

/// What an `[[upstream]]` is called: 1 to 64 lower-case letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct UpstreamName(Box<str>);

/// Text that is no name of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name of an upstream: it has 1 to 64 lower-case letters, digits, '-' and '_'")]
pub struct InvalidUpstreamName(String);

impl UpstreamName {
    /// For the upstream that a site makes by naming a server; nobody can name it.
    pub(super) fn of_one() -> Self {
        Self("".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UpstreamName {
    type Err = InvalidUpstreamName;

    fn from_str(text: &str) -> Result<Self, InvalidUpstreamName> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidUpstreamName(text.to_owned()))
        }
    }
}

impl FromStr for Destination {
    type Err = InvalidUpstream;

    /// What is no name is a server, or the mistake that somebody made in writing one.
    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        match text.parse() {
            Ok(name) => Ok(Self::Upstream(name)),
            Err(_) => text.parse().map(Self::Server),
        }
    }
}

impl From<UpstreamUrl> for Destination {
    fn from(url: UpstreamUrl) -> Self {
        Self::Server(url)
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UpstreamName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
