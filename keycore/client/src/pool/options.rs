use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::identity::Identity;

/// What a [`Pool`](crate::Pool) needs to know; [`PoolOptions::new`] gives the defaults.
pub struct PoolOptions {
    /// The engines; one connection is kept to each.
    pub endpoints: Vec<Endpoint>,
    /// Who logs in. Without one, only operations that need no login can be asked.
    pub identity: Option<Arc<Identity>>,
    /// Name and version of this program, for the engine's log; at most 64 bytes are kept. Default: this crate's.
    pub client_name: String,
    /// Whether, and how soon, a late request is also sent to a second engine. Default: as [`Hedging::default`].
    pub hedging: Option<Hedging>,
    /// Longest that connecting may take, with the TLS handshake if there is one, and again for the hello. Default: 2 s.
    pub connect_timeout: Duration,
    /// Longest that a login may take; it waits for password hashes of others. Default: 10 s.
    pub login_timeout: Duration,
    /// Longest that a call waits while no engine at all is connected; the first reconnect of a restarted engine falls
    /// into it. Default: 500 ms.
    pub fail_fast_after: Duration,
    /// How often an idle connection is tried. Default: 1 s.
    pub ping_interval: Duration,
    /// How long an engine may be silent while it owes an answer until its connection is dropped. Default: 10 s.
    pub drop_after: Duration,
    /// Most calls that wait for a connection with room. Default: 65,536.
    pub max_waiting: usize,
}

impl PoolOptions {
    /// The defaults, for these engines.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            identity: None,
            client_name: concat!("keycore-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            hedging: Some(Hedging::default()),
            connect_timeout: Duration::from_secs(2),
            login_timeout: Duration::from_secs(10),
            fail_fast_after: Duration::from_millis(500),
            ping_interval: Duration::from_secs(1),
            drop_after: Duration::from_secs(10),
            max_waiting: 65_536,
        }
    }
}

/// When a request without an answer is also sent to a second engine: after twice the 99th percentile of recent
/// latencies, within these bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedging {
    /// Never sooner. Default: 2 ms.
    pub floor: Duration,
    /// Never later. Default: 100 ms.
    pub ceiling: Duration,
    /// Most hedges for 100 calls, in the long run: so that overload can't double itself. Default: 10.
    pub percent: u8,
    /// Most hedges at once. Default: 64.
    pub burst: u16,
}

impl Default for Hedging {
    fn default() -> Self {
        Self { floor: Duration::from_millis(2), ceiling: Duration::from_millis(100), percent: 10, burst: 64 }
    }
}
