use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::Endpoint;

/// How one engine does, as one pool sees it.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    /// Which engine.
    pub endpoint: Endpoint,
    /// Whether it can be asked.
    pub state: EngineState,
    /// What happened since the pool started.
    pub counters: EngineCounters,
    /// Why the connection was lost, or not made, the last time.
    pub last_error: Option<String>,
}

/// Whether an engine can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineState {
    /// Connected and logged in.
    Connected {
        /// Requests without an answer.
        in_flight: usize,
    },
    /// Connected, but it owes answers and is silent: frozen, or the machine is. It is asked again when it answers.
    Suspect {
        /// Requests without an answer.
        in_flight: usize,
    },
    /// On the way: the socket, the hello or the login.
    Connecting,
    /// The last try failed; the next one comes within a second.
    Down {
        /// Since when there is no connection.
        since: Instant,
    },
}

impl EngineState {
    /// Whether new calls go there.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// Counts of one engine since the pool started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Requests sent, hedges and repetitions included, logins and pings not.
    pub requests: u64,
    /// Answers received, late ones included.
    pub answers: u64,
    /// Refusals after which another engine was asked.
    pub refusals_retried: u64,
    /// Times that a connection was made and logged in.
    pub connects: u64,
    /// Times that a connection was lost.
    pub losses: u64,
    /// Times that the engine was taken for frozen.
    pub suspicions: u64,
    /// Answers to quick operations, like signatures, that came first of all that were asked.
    pub timed_answers: u64,
    /// How long these took together, from sending.
    pub answer_time: Duration,
}

/// Counts of a pool since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Calls begun.
    pub calls: u64,
    /// Calls that ended in an error other than a refusal.
    pub failures: u64,
    /// Requests sent again: because a connection was lost, an engine was silent, or refused for reasons of its own.
    pub failovers: u64,
    /// Requests sent to a second engine because the answer was late.
    pub hedges: u64,
    /// Hedges whose answer came first.
    pub hedge_wins: u64,
    /// 99th percentile of the latencies of recent quick operations; zero until there are enough.
    pub latency_p99: Duration,
    /// How late an answer must be now to be hedged; zero without hedging.
    pub hedge_delay: Duration,
    /// Calls that wait for a connection with room now.
    pub waiting: usize,
}
