use std::rc::Rc;

use keycore_wire::Operation;
use tokio::time::Instant;

use crate::error::Error;

mod options;
mod status;

pub use options::{Hedging, PoolOptions};
pub use status::{EngineCounters, EngineState, EngineStatus, PoolCounters};

/// Warm connections to all engines, for one thread.
#[derive(Clone)]
pub struct Pool {
    _handle: Rc<()>,
}

impl Pool {
    /// Starts connecting.
    ///
    /// # Panics
    ///
    /// Outside of a [`tokio::task::LocalSet`].
    pub fn start(_options: PoolOptions) -> Self {
        Self { _handle: Rc::new(()) }
    }

    /// Asks, and waits for the reply until `deadline`.
    pub async fn call<T: Operation>(&self, _operation: &T, _deadline: Instant) -> Result<T::Reply, Error> {
        Err(Error::DeadlineExceeded)
    }

    /// Waits until an engine can be asked (connected, logged in), at most until `deadline`; whether one can.
    pub async fn ready(&self, _deadline: Instant) -> bool {
        false
    }

    /// How each engine does.
    pub fn status(&self) -> Vec<EngineStatus> {
        Vec::new()
    }

    /// What the pool did since it started.
    pub fn counters(&self) -> PoolCounters {
        PoolCounters::default()
    }
}
