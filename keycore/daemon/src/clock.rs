//! The daemon's clocks; the engine itself reads none.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keycore_engine::Now;
use keycore_wire::UnixMillis;

/// Reads both clocks for the engine. Shared by the threads of a replica, by copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start; never goes back.
    pub(crate) fn mono(self) -> Duration {
        self.start.elapsed()
    }

    /// Both clocks. A wall clock before 1970 counts as 1970.
    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: UnixMillis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)), mono: self.mono() }
    }
}
