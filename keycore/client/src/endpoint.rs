use core::fmt;
use core::str::FromStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::stream::{AsyncStream, Stream};
use crate::tls::ClientTls;

/// Where an engine listens, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A Unix socket, by its path (at most 107 bytes, see `unix(7)`).
    Unix(PathBuf),
    /// Another machine's port, over TLS 1.3 with certificates on both sides.
    Tcp(TcpEndpoint),
}

/// An engine on another machine. Two are the same if their addresses are.
#[derive(Clone)]
pub struct TcpEndpoint {
    pub(crate) host: ServerName<'static>,
    pub(crate) port: u16,
    pub(crate) tls: ClientTls,
}

/// Where an engine listens, as people write it: a path, or `tcp://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineAddress {
    /// A Unix socket, by its path.
    Unix(PathBuf),
    /// A port of a host, which may be an IP address; the engine's certificate must be for it.
    Tcp {
        /// Name or address.
        host: ServerName<'static>,
        /// Port.
        port: u16,
    },
}

/// A text is no address of an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address of an engine: expected the path of a socket, tcp://name:port or tcp://[IPv6 address]:port"
)]
pub struct AddressError {
    text: String,
}

impl EngineAddress {
    /// Port of an address that has none: that of replica 0.
    pub const DEFAULT_PORT: u16 = 2223;
}

impl FromStr for EngineAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { text: text.to_owned() };
        let Some(place) = text.strip_prefix("tcp://") else {
            return if text.is_empty() || text.contains("://") {
                Err(wrong())
            } else {
                Ok(Self::Unix(text.into()))
            };
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)?,
            None if port.is_empty() => Self::DEFAULT_PORT,
            None => return Err(wrong()),
        };
        let host = ServerName::try_from(host).map_err(|_| wrong())?.to_owned();
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp { host, port } => write_tcp(f, host, *port),
        }
    }
}

impl Endpoint {
    /// Connects, and for TLS shakes hands; all of it takes at most `timeout`, but for the resolver's own time to find
    /// the address of a name.
    pub(crate) fn connect_blocking(&self, timeout: Duration) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => Stream::connect_unix(path, timeout),
            Self::Tcp(TcpEndpoint { host, port, tls }) => Stream::connect_tcp(host, *port, tls, timeout),
        }
    }

    /// Connects, and for TLS shakes hands. Over a Unix socket it fails at once if the engine's backlog is full; over TCP
    /// it takes as long as it is waited for.
    pub(crate) async fn connect(&self) -> io::Result<AsyncStream> {
        match self {
            Self::Unix(path) => AsyncStream::connect_unix(path).await,
            Self::Tcp(TcpEndpoint { host, port, tls }) => AsyncStream::connect_tcp(host, *port, tls).await,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(TcpEndpoint { host, port, .. }) => write_tcp(f, host, *port),
        }
    }
}

impl From<PathBuf> for Endpoint {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<&Path> for Endpoint {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl PartialEq for TcpEndpoint {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl Eq for TcpEndpoint {}

impl fmt::Debug for TcpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tcp(f, &self.host, self.port)
    }
}

fn write_tcp(f: &mut fmt::Formatter<'_>, host: &ServerName<'_>, port: u16) -> fmt::Result {
    match host {
        ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_)) => {
            write!(f, "tcp://[{}]:{port}", host.to_str())
        }
        _ => write!(f, "tcp://{}:{port}", host.to_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in [
            "/run/hsm-engine/engine-0.sock",
            "tcp://hsm.example:2223",
            "tcp://192.0.2.7:2224",
            "tcp://[2001:db8::7]:2225",
        ] {
            assert_eq!(text.parse::<EngineAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "tcp://hsm.example".parse::<EngineAddress>().unwrap().to_string(),
            "tcp://hsm.example:2223"
        );
        assert_eq!("tcp://[::1]".parse::<EngineAddress>().unwrap().to_string(), "tcp://[::1]:2223");
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_one_looks_like() {
        for text in [
            "",
            "tcp://",
            "tcp://:2223",
            "tcp://a:0",
            "tcp://a:65536",
            "tcp://a:b",
            "tcp://a:",
            "tcp://::1:2223",
            "tcp://[::1",
            "tcp://[::1]2223",
            "tcp://a/b",
            "tcp://a b",
            "http://a:1",
            "tls://a:1",
        ] {
            let error = text.parse::<EngineAddress>().unwrap_err().to_string();
            assert!(error.contains("tcp://name:port"), "{error}");
        }
    }
}
