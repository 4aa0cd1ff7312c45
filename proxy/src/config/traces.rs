use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// `[traces]`: what requests and handshakes took, told to a collector (OpenTelemetry, OTLP over HTTP).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct TraceSettings {
    /// The collector, as in "http://127.0.0.1:4318"; `/v1/traces` is added where there is no path. Nothing is traced if absent.
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<CollectorUrl>,
    /// The share of traces that are told, of those that begin here: from 0.0 to 1.0.
    #[schemars(with = "f64")]
    pub sample: Share,
    /// Whether a client's `traceparent` is continued, with its own decision whether it is told. Else its trace ends here.
    pub trust_clients: bool,
    /// What the proxy is called in traces.
    pub service_name: String,
    /// A file of header fields for the collector, one `Name: value` on a line: that is where a token belongs.
    pub headers_file: Option<PathBuf>,
    /// PEM file of trust anchors for an `https` collector; the system's if absent.
    pub ca: Option<PathBuf>,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample: Share(0.01),
            trust_clients: false,
            service_name: "hsm-proxy".to_owned(),
            headers_file: None,
            ca: None,
        }
    }
}

/// Where spans are sent: an `http://` or `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl(Uri);

/// Text that is no address of a collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text} is no address of a collector: write one as \"http://127.0.0.1:4318\"; tokens belong into headers-file"
)]
pub struct InvalidCollectorUrl {
    /// Quoted; not if it may hold a password.
    text: String,
}

impl CollectorUrl {
    /// What of it is asked for (OTLP specification, "OTLP/HTTP Request").
    pub(crate) fn path(&self) -> &str {
        match self.0.path_and_query().map(http::uri::PathAndQuery::as_str) {
            None | Some("" | "/") => "/v1/traces",
            Some(path) => path,
        }
    }

    /// Host and port, if one is given.
    pub(crate) fn authority(&self) -> &str {
        self.0.authority().map_or("", http::uri::Authority::as_str)
    }

    pub(crate) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CollectorUrl {
    type Err = InvalidCollectorUrl;

    fn from_str(text: &str) -> Result<Self, InvalidCollectorUrl> {
        let invalid = || InvalidCollectorUrl {
            text: if text.contains(['@', '?']) { "this".to_owned() } else { format!("{text:?}") },
        };
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        // A host, and a port if there is a colon: no user, and nothing that is taken for another port.
        let is_whole = uri.authority().is_some_and(|authority| {
            let port = authority.port_u16().map_or(String::new(), |port| format!(":{port}"));
            !authority.host().is_empty() && authority.as_str() == format!("{}{port}", authority.host())
        });
        if is_web && is_whole && uri.query().is_none() { Ok(Self(uri)) } else { Err(invalid()) }
    }
}

impl<'de> Deserialize<'de> for CollectorUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl Share {
    /// `None` outside of 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// Whether it holds one whose number was drawn evenly from all of its type.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more precision than it has")]
    pub(crate) fn holds(self, drawn: u64) -> bool {
        // Of two to the 64th; the largest are rounded to it, and belong to all.
        self.0 >= 1.0 || (drawn as f64) < self.0 * 18_446_744_073_709_551_616.0
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        Self::new(share).ok_or_else(|| {
            serde::de::Error::custom(format_args!("{share} is no share: write a number from 0.0 to 1.0"))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn a_collector_without_a_path_is_asked_where_otlp_says() {
        for (text, host, port, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1", 4318, "/v1/traces"),
            ("http://collector/", "collector", 80, "/v1/traces"),
            ("https://collector/a/b", "collector", 443, "/a/b"),
            ("https://[::1]:9/x", "[::1]", 9, "/x"),
        ] {
            let url: CollectorUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
        }
        for text in [
            "127.0.0.1:4318",
            "grpc://x",
            "http://",
            "/v1",
            "http://me:secret@collector",
            "http://me:se/secret@collector",
            "http://collector:43l8",
            "http://collector:99999",
            "htps://c/v1?key=secret",
            "http://c/v1?key=secret",
            "",
        ] {
            let error = text.parse::<CollectorUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_share_holds_as_many_as_it_says() {
        let share = |share: f64| Share::new(share).unwrap();
        for (of, drawn, held) in [
            (0.0, 0, false),
            (1.0, u64::MAX, true),
            (0.5, u64::MAX / 2 - 2048, true),
            (0.5, u64::MAX / 2 + 2048, false),
            (0.01, 0, true),
        ] {
            assert_eq!(share(of).holds(drawn), held, "{of} {drawn}");
        }
        assert_eq!((Share::new(-0.1), Share::new(1.1), Share::new(f64::NAN)), (None, None, None));
    }
}
