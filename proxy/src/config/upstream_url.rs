use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// Where a site's requests go: `http://host[:port]`. There is no path: requests keep theirs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct UpstreamUrl {
    authority: Authority,
    port: u16,
}

/// Text that is no upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an upstream: {reason}")]
pub struct InvalidUpstream {
    text: String,
    reason: &'static str,
}

impl UpstreamUrl {
    /// Host and port as written, for a `Host` header.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A DNS name, or an IP address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port; 80 if none is written.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for UpstreamUrl {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let invalid = |reason| InvalidUpstream { text: text.to_owned(), reason };
        let uri: Uri = text.parse().map_err(|_| invalid("write it as http://127.0.0.1:3000"))?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err(invalid("TLS to upstreams is not supported yet; use http://"));
            }
            _ => return Err(invalid("write it as http://127.0.0.1:3000")),
        }
        let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it can't have a user name"));
        }
        if authority.host().is_empty() {
            return Err(invalid("it names no host"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("it can't have a path; requests keep theirs"));
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() == authority.host() => 80,
            None => return Err(invalid("its port is not a number from 1 to 65535")),
        };
        if port == 0 {
            return Err(invalid("its port is not a number from 1 to 65535"));
        }
        Ok(Self { authority: authority.clone(), port })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
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
        for (text, host, port) in [
            ("http://127.0.0.1:3000", "127.0.0.1", 3000),
            ("http://backend/", "backend", 80),
            ("http://[::1]:8080", "::1", 8080),
            ("http://[::1]", "::1", 80),
        ] {
            let url: UpstreamUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (text, reason) in [
            ("https://backend", "not supported yet"),
            ("backend:3000", "write it as"),
            ("127.0.0.1", "write it as"),
            ("http://a:b@backend", "user name"),
            ("http://backend/path", "path"),
            ("http://backend/?q", "path"),
            ("http://backend:0", "port"),
            ("http://backend:65536", "port"),
            ("ftp://backend", "write it as"),
            ("", "write it as"),
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
