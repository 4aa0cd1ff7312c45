use core::fmt;

use keycore_wire::Refusal;

use crate::endpoint::Endpoint;
use crate::identity::IdentityError;

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An engine said no, and asking another one or later would not help (or did not, as often as it was tried).
    #[error("the engine refused: {0}")]
    Refused(Refusal),
    /// The engines don't log this user in, so nothing can be asked.
    #[error("the engine refused the login: {0}")]
    Login(Refusal),
    /// The password or token that the login needs can't be had.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No engine could be reached, or each one that was reached was lost.
    #[error("no engine answers: {}", Listed(.engines))]
    NoEngine {
        /// What became of each of them.
        engines: Vec<EngineFailure>,
    },
    /// The deadline passed before an answer came.
    #[error("no engine answered in time")]
    DeadlineExceeded,
    /// The connection was lost after a request that may not be repeated was sent: it may have taken effect.
    #[error(
        "the connection was lost during {operation}: it may have taken effect, look before you repeat it"
    )]
    OutcomeUnknown {
        /// What was asked.
        operation: &'static str,
    },
    /// The request is longer than the engine takes.
    #[error("{operation} takes a frame of {length} bytes, the engine's limit is {limit}")]
    TooLarge {
        /// What was asked.
        operation: &'static str,
        /// Whole frame, header included.
        length: usize,
        /// The engine's limit.
        limit: usize,
    },
    /// More calls wait for an engine than [`PoolOptions::max_waiting`](crate::PoolOptions::max_waiting).
    #[error("too many calls wait for an engine already")]
    TooManyWaiting,
}

/// What became of one engine, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFailure {
    /// Which engine.
    pub endpoint: Endpoint,
    /// Why it can't be used, in one line.
    pub reason: String,
}

impl fmt::Display for EngineFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.reason)
    }
}

struct Listed<'a>(&'a [EngineFailure]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none is configured");
        }
        for (at, failure) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            failure.fmt(f)?;
        }
        Ok(())
    }
}
