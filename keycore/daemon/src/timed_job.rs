//! Where the time of a slow request goes: it waits for a worker, is worked on, and waits for the event loop.

use std::time::Duration;

use keycore_engine::{Answer, Engine, Finished, Job};

use crate::clock::Clock;

/// A job, and when its request was read.
pub(crate) struct TimedJob {
    pub(crate) job: Job,
    /// On the monotonic clock.
    pub(crate) arrived: Duration,
}

/// A job that was run.
pub(crate) struct TimedResult {
    pub(crate) finished: Finished,
    arrived: Duration,
    computing: Duration,
}

impl TimedJob {
    /// Carries it out, on a worker.
    pub(crate) fn run(self, engine: &Engine, clock: Clock) -> TimedResult {
        let Self { job, arrived } = self;
        let now = clock.now();
        let finished = engine.run(job, now);
        TimedResult { finished, arrived, computing: clock.mono().saturating_sub(now.mono) }
    }
}

/// What of the time of a job is known when it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    arrived: Duration,
    computing: Duration,
}

impl TimedResult {
    /// The result and its time, apart.
    pub(crate) fn split(self) -> (Finished, Spent) {
        let Self { finished, arrived, computing } = self;
        (finished, Spent { arrived, computing })
    }
}

impl Spent {
    /// Of a request that was read at `arrived`, for which something was done since `begun`, and that is answered now.
    pub(crate) fn until(arrived: Duration, begun: Duration, now: Duration) -> Self {
        Self { arrived, computing: now.saturating_sub(begun) }
    }

    /// Notes it in an answer that has room for it.
    pub(crate) fn note(self, answer: &mut Answer, now: Duration) {
        let all = now.saturating_sub(self.arrived);
        answer.note_time(all.saturating_sub(self.computing), self.computing);
    }
}
