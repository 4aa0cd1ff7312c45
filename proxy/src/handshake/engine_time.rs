use std::time::{Duration, Instant};

use keycore_wire::TimedSignature;

/// What of a signature's time its engine had it, as that says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineTime {
    /// It waited there.
    pub(crate) queued: Duration,
    /// It was made.
    pub(crate) computing: Duration,
}

impl EngineTime {
    pub(crate) fn of(signature: &TimedSignature) -> Self {
        let micros = |time: u32| Duration::from_micros(time.into());
        Self { queued: micros(signature.queued_us), computing: micros(signature.computing_us) }
    }
}

/// When a handshake's signature was asked for, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignatureTime {
    pub(crate) asked: Instant,
    pub(crate) took: Duration,
    /// What of it was spent in the engine, if that says.
    pub(crate) engine: Option<EngineTime>,
}
