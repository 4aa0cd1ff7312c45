use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ClientCertificates;

/// What a site demands of TLS. Sites with the same demands share a `ServerConfig`, and may share connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// The lowest version.
    pub min_version: MinTls,
    /// Which certificates of clients it accepts; none are asked for if absent.
    pub client_certificates: Option<ClientCertificates>,
}

impl TlsPolicy {
    /// What tickets are bound to: a session is resumed only where the same clients would be let in.
    pub(super) fn ticket_context(&self) -> [u8; 32] {
        self.client_certificates.as_ref().map_or([0; 32], ClientCertificates::digest)
    }
}

/// The lowest version of TLS that a site speaks. 1.3 is always spoken: see "The engine parses what it signs" in
/// ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
pub enum MinTls {
    /// TLS 1.2 (RFC 5246) and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446) only.
    #[serde(rename = "1.3")]
    Tls13,
}

impl MinTls {
    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Tls12 => &BOTH,
            Self::Tls13 => &BOTH[..1],
        }
    }
}
