use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// A server behind the proxy: `http://host[:port]`, `https://…`, `h2c://…` (HTTP/2 without TLS) or `unix:/path` of a socket. There is no path of requests: they keep
/// theirs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct UpstreamUrl {
    scheme: UpstreamScheme,
    place: UpstreamPlace,
}

/// How an upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 or HTTP/1.1, as the server chooses, in TLS.
    Https,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113, section 3.3).
    H2c,
}

/// Where an upstream listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamPlace {
    /// At a TCP port.
    Tcp {
        /// Host and port as written.
        authority: Authority,
        /// The port; the scheme's if none is written.
        port: u16,
    },
    /// At a Unix socket.
    Unix(PathBuf),
}

/// Text that is no upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an upstream: {reason}")]
pub struct InvalidUpstream {
    text: String,
    reason: &'static str,
}

/// What a `sockaddr_un` holds, with the zero byte at its end (`unix(7)`).
const UNIX_PATH: usize = 108;

const HOW: &str = "write it as http://127.0.0.1:3000 or unix:/run/app.sock";

impl UpstreamUrl {
    /// How it is spoken to.
    pub fn scheme(&self) -> UpstreamScheme {
        self.scheme
    }

    /// Where it listens.
    pub fn place(&self) -> &UpstreamPlace {
        &self.place
    }

    pub(super) fn unix(path: &str) -> Result<UpstreamPlace, &'static str> {
        if !Path::new(path).is_absolute() {
            return Err("the path of a socket is absolute, as in unix:/run/app.sock");
        }
        if path.len() >= UNIX_PATH {
            return Err("the path of a socket has at most 107 bytes");
        }
        Ok(UpstreamPlace::Unix(path.into()))
    }

    pub(super) fn tcp(uri: &Uri, default_port: u16) -> Result<UpstreamPlace, &'static str> {
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it can't have a user name");
        }
        if authority.host().is_empty() {
            return Err("it names no host");
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err("it can't have a path; requests keep theirs");
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() == authority.host() => default_port,
            None => 0,
        };
        if port == 0 {
            return Err("its port is not a number from 1 to 65535");
        }
        Ok(UpstreamPlace::Tcp { authority: authority.clone(), port })
    }
}

impl FromStr for UpstreamUrl {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let invalid = |reason| InvalidUpstream { text: text.to_owned(), reason };
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self { scheme: UpstreamScheme::Http, place: Self::unix(path).map_err(invalid)? });
        }
        let uri: Uri = text.parse().map_err(|_| invalid(HOW))?;
        let (scheme, port) = match uri.scheme_str() {
            Some("http") => (UpstreamScheme::Http, 80),
            Some("https") => (UpstreamScheme::Https, 443),
            Some("h2c") => (UpstreamScheme::H2c, 80),
            _ => return Err(invalid(HOW)),
        };
        Ok(Self { scheme, place: Self::tcp(&uri, port).map_err(invalid)? })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            UpstreamPlace::Tcp { authority, .. } => write!(f, "{}://{authority}", self.scheme),
            UpstreamPlace::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for UpstreamScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        })
    }
}

impl<'de> Deserialize<'de> for UpstreamUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_found() {
        for (text, host, default) in [
            ("http://127.0.0.1:3000", "127.0.0.1:3000", 3000),
            ("http://backend/", "backend", 80),
            ("http://[::1]:8080", "[::1]:8080", 8080),
            ("http://[::1]", "[::1]", 80),
            ("https://backend", "backend", 443),
            ("h2c://backend:50051", "backend:50051", 50051),
        ] {
            let url: UpstreamUrl = text.parse().unwrap();
            let UpstreamPlace::Tcp { authority, port } = url.place() else { panic!("{text}") };
            assert_eq!((authority.as_str(), *port), (host, default), "{text}");
        }
        let url: UpstreamUrl = "unix:/run/app.sock".parse().unwrap();
        assert_eq!(url.place(), &UpstreamPlace::Unix("/run/app.sock".into()));
        assert_eq!(url.to_string(), "unix:/run/app.sock");
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        let long = format!("unix:/{}", "a".repeat(107));
        for (text, reason) in [
            ("backend:3000", "write it as"),
            ("127.0.0.1", "write it as"),
            ("http://a:b@backend", "user name"),
            ("http://backend/path", "path"),
            ("http://backend/?q", "path"),
            ("http://backend:0", "port"),
            ("http://backend:65536", "port"),
            ("ftp://backend", "write it as"),
            ("", "write it as"),
            ("unix:app.sock", "absolute"),
            (&long, "107 bytes"),
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
