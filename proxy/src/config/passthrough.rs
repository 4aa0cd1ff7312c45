use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use http::Uri;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::Config;
use super::host::{self, HostPattern};
use super::upstream::ProxyProtocol;
use super::upstream_url::{UpstreamPlace, UpstreamUrl};

/// `[[passthrough]]`: connections that are passed on as they are, by the name that their clients ask for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PassthroughSettings {
    /// Names: exact ones, or `*.` and a domain.
    #[serde(deserialize_with = "host::one_or_more")]
    #[schemars(with = "host::OneOrMore")]
    pub host: Vec<HostPattern>,
    /// The server that makes the TLS handshake: `tcp://host:port` or `unix:/path`.
    pub to: PassthroughTarget,
    /// How each connection says whose it is; not at all if absent.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A server that speaks TLS itself: `tcp://host:port`, or `unix:/path` of its socket.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct PassthroughTarget(UpstreamPlace);

/// Text that is no such server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no server for a passthrough: write it as tcp://10.0.0.5:443 or unix:/run/app.sock")]
pub struct InvalidPassthroughTarget(String);

impl PassthroughSettings {
    /// The name that stands for it in logs: its first host.
    pub(crate) fn name(&self) -> &str {
        self.host.first().map_or("", HostPattern::as_str)
    }
}

impl PassthroughTarget {
    /// Where it listens.
    pub fn place(&self) -> &UpstreamPlace {
        &self.0
    }
}

impl FromStr for PassthroughTarget {
    type Err = InvalidPassthroughTarget;

    fn from_str(text: &str) -> Result<Self, InvalidPassthroughTarget> {
        let place = match text.strip_prefix("unix:") {
            Some(path) => UpstreamUrl::unix(path).ok(),
            None => {
                let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("tcp"));
                uri.and_then(|uri| UpstreamUrl::tcp(&uri, 0).ok())
            }
        };
        place.map(Self).ok_or_else(|| InvalidPassthroughTarget(text.to_owned()))
    }
}

impl fmt::Display for PassthroughTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UpstreamPlace::Tcp { authority, .. } => write!(f, "tcp://{authority}"),
            UpstreamPlace::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for PassthroughTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is wrong with the passthroughs, and where in the text.
pub(super) fn validate(config: &Config, text: &str) -> Result<(), (Option<Range<usize>>, String)> {
    let mut taken = HashMap::new();
    let of_sites = config.sites.iter().flat_map(|site| &site.host);
    taken.extend(of_sites.map(|host| (host, "a [[site]]".to_owned())));
    for (at, passthrough) in config.passthroughs.iter().enumerate() {
        for host in &passthrough.host {
            if let Some(of) = taken.insert(host, format!("passthrough {}", at + 1)) {
                let message = format!("host {host} belongs to {of} already: it is passed on, or served here");
                return Err((span(text, at), message));
            }
        }
    }
    Ok(())
}

fn span(text: &str, at: usize) -> Option<Range<usize>> {
    #[derive(Deserialize)]
    struct Tables {
        passthrough: Vec<Spanned<IgnoredAny>>,
    }

    let tables: Tables = toml::from_str(text).ok()?;
    tables.passthrough.get(at).map(Spanned::span)
}
