use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// A host name of a site, in lower case: an exact DNS name, `*.` and a DNS name, or `*` for all names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern(Box<str>);

/// Text that is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host name: {reason}")]
pub struct InvalidHost {
    text: String,
    reason: &'static str,
}

impl HostPattern {
    /// The pattern as text, with its `*.` if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for all names.
    pub fn is_any(&self) -> bool {
        &*self.0 == "*"
    }

    /// The part behind `*.`; `None` for an exact name, and for `*`.
    pub fn wildcard_suffix(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    /// Accepts the names of RFC 1123, section 2.1, up to 253 bytes; upper case is lowered. Names with other letters than
    /// ASCII are written in their `xn--` form (RFC 5890).
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = |reason| InvalidHost { text: text.to_owned(), reason };
        if text == "*" {
            return Ok(Self(text.into()));
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if !text.is_ascii() {
            return Err(invalid("write names in other letters than ASCII in their xn-- form"));
        }
        if name.contains('*') {
            return Err(invalid("a '*' may only be the whole first label, as in *.example.org"));
        }
        if name.contains(':') {
            return Err(invalid("it takes no port and no scheme"));
        }
        if text.len() > 253 {
            return Err(invalid("it is longer than 253 bytes"));
        }
        if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err(invalid("each label between the dots has 1 to 63 characters"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name
            .split('.')
            .any(|label| label.starts_with('-') || label.ends_with('-') || !label.bytes().all(allowed))
        {
            return Err(invalid("labels have letters, digits and inner hyphens"));
        }
        if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(invalid("an IP address can't be asked for in SNI"));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How [`one_or_more`] looks in the JSON Schema.
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub(super) enum OneOrMore {
    One(String),
    More(#[schemars(length(min = 1))] Vec<String>),
}

/// Reads a string, or an array of strings that is not empty.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HostPattern>, D::Error> {
    struct Visitor;

    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<HostPattern>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a host name, or an array of host names")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.parse().map(|host| vec![host]).map_err(E::custom)
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut hosts = Vec::new();
            while let Some(host) = seq.next_element()? {
                hosts.push(host);
            }
            if hosts.is_empty() {
                return Err(serde::de::Error::custom("a site needs at least one host name"));
            }
            Ok(hosts)
        }
    }

    deserializer.deserialize_any(Visitor)
}
