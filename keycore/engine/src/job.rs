use core::time::Duration;

use keycore_wire::{Refusal, Reply};
use zeroize::Zeroizing;

use crate::session::{Caller, SessionChange};

/// What became of a request at first sight.
pub enum Step {
    /// It is answered.
    Answer(Answer),
    /// It takes long: give it to a worker thread's [`Engine::run`](crate::Engine::run).
    Job(Job),
}

/// The answer to one request.
pub struct Answer {
    /// What to send.
    pub result: Result<Reply, Refusal>,
    /// Whether to close the connection once it is sent: the peer does not speak this protocol.
    pub close: bool,
}

impl Answer {
    pub(crate) fn new(result: Result<Reply, Refusal>) -> Self {
        Self { result, close: false }
    }

    /// Whether it has room for where its time went.
    pub fn is_timed(&self) -> bool {
        matches!(self.result, Ok(Reply::TimedSignature(_)))
    }

    /// Notes where its time went, if it has room for that: how long the request waited, and how long something was done for it.
    pub fn note_time(&mut self, queued: Duration, computing: Duration) {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        if let Ok(Reply::TimedSignature(timed)) = &mut self.result {
            (timed.queued_us, timed.computing_us) = (micros(queued), micros(computing));
        }
    }

    pub(crate) fn last(refusal: Refusal) -> Self {
        Self { result: Err(refusal), close: true }
    }
}

/// Whether the event loop has anything else to do than a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leisure {
    /// Other requests wait, or may be running on workers.
    Busy,
    /// Nothing else waits or runs: a signature of a third of a millisecond may be made on the spot. Handing it to a worker
    /// and taking it back costs two switches of threads, half as much as what else there is to a request.
    Idle,
}

/// What makes a job slow; for fairness between connections and between kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cost {
    /// The store is read: well under a millisecond, unless a writer is at work.
    Lookup,
    /// A signature with RSA or P-521, or of a long message: up to two milliseconds.
    Signature,
    /// The store is written: as long as its disk takes.
    Change,
    /// A password is hashed, or a key made: tens of milliseconds, seconds for RSA-4096.
    Heavy,
}

/// A request that a worker thread has to carry out; owns a copy of its bytes, which is wiped.
pub struct Job {
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) caller: Caller,
    pub(crate) cost: Cost,
}

impl Job {
    /// What makes it slow.
    pub fn cost(&self) -> Cost {
        self.cost
    }
}

/// A job that was run; for [`Engine::finish`](crate::Engine::finish).
pub struct Finished {
    pub(crate) result: Result<Reply, Refusal>,
    pub(crate) session: SessionChange,
}
