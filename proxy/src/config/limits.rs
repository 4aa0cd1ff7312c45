use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::network::Network;
use super::rate::Rate;
use super::units;

/// `[limits]`: how many and how large things may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Client connections of the process.
    pub connections: usize,
    /// Connections of one client: an IPv4 address or an IPv6 /64; 0 means no limit.
    pub connections_per_ip: usize,
    /// New connections of one client, like "50/s"; no limit if absent.
    pub new_connections_per_ip: Option<Rate>,
    /// Requests of one client, like "100/s"; no limit if absent.
    pub requests_per_ip: Option<Rate>,
    /// Addresses and networks that the limits for each client are not for: load balancers, monitoring.
    pub exempt: Vec<Network>,
    /// Handshakes of the process that are computed or signed now; those that wait for their clients don't count.
    pub handshakes: usize,
    /// Full handshakes of the process from their key exchange to their signature; resumed ones don't count.
    pub signatures: usize,
    /// The same of one site.
    pub signatures_per_site: usize,
    /// Full handshakes of one site that wait for one of those to end.
    pub signature_queue: usize,
    /// A request's head, in bytes.
    #[serde(with = "units::size")]
    #[schemars(with = "units::Size")]
    pub header_bytes: usize,
    /// A request's body, in bytes, on sites that say nothing else; no limit if absent.
    #[serde(with = "units::optional_size")]
    #[schemars(with = "Option<units::Size>")]
    pub body_bytes: Option<usize>,
    /// Header fields of a request.
    pub headers: usize,
    /// Concurrent streams of an HTTP/2 connection.
    pub http2_streams: u32,
    /// Streams that a client of HTTP/2 may reset in a second, on one connection and before they were answered; twice as many at
    /// once.
    pub http2_resets: u32,
    /// Connections that each worker keeps to each upstream without a request.
    pub upstream_idle_connections: usize,
    /// Connections that each worker has to each upstream, idle or not.
    pub upstream_connections: usize,
}

impl Limits {
    /// Whether the limits for each client are not for this one.
    pub(crate) fn is_exempt(&self, client: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(client))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_ip: 0,
            new_connections_per_ip: None,
            requests_per_ip: None,
            exempt: Vec::new(),
            handshakes: 4_000,
            signatures: 256,
            signatures_per_site: 128,
            signature_queue: 1_000,
            header_bytes: 64 * 1024,
            body_bytes: None,
            headers: 100,
            http2_streams: 128,
            http2_resets: 100,
            upstream_idle_connections: 512,
            upstream_connections: 10_000,
        }
    }
}
