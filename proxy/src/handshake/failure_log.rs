use std::net::SocketAddr;
use std::time::Duration;

use super::failure::{Category, HandshakeError};
use crate::throttle::Throttle;

/// Lines of one category that may come at once after a silence.
const BURST: u64 = 50;

/// How often one may come in a flood: some 20 MB in a day.
const PERIOD: Duration = Duration::from_secs(1);

/// Writes a line for each failed handshake. Each category is throttled by itself, so that a port scan hides no engine
/// that doesn't sign, and no flood fills the disk.
pub(crate) struct FailureLog {
    throttles: [Throttle; Category::ALL.len()],
}

impl FailureLog {
    pub(crate) fn new() -> Self {
        Self { throttles: Category::ALL.map(|_| Throttle::bursts(BURST, PERIOD)) }
    }

    /// The handshake with `client`, who has asked for `sni` if for anything, failed.
    pub(crate) fn failed(&self, client: SocketAddr, sni: Option<&str>, error: &HandshakeError) {
        let category = error.category();
        let Some(held_back) = self.throttles[category as usize].pass() else { return };
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let name = category.name();
        // Whatever a client can put in here is its name, and that is a DNS name.
        let sni = sni.unwrap_or("-");
        if category.is_ours() {
            tracing::warn!(category = name, %client, sni, %error, held_back, "handshake failed");
        } else {
            tracing::info!(category = name, %client, sni, %error, held_back, "handshake failed");
        }
    }
}
