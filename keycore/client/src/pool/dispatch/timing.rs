//! What happens as time passes: hedges, deadlines, frozen engines, second tries.

use std::cmp::Reverse;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::{Dispatch, Engine};
use crate::error::Error;
use crate::pool::call::CallKey;

/// Pause before the first retry of a call that was refused for the engine's reasons; doubled with each try.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Silence of so many hedge delays makes an engine suspect.
const SUSPECT_DELAYS: u32 = 5;

/// Shorter silence never does.
const SUSPECT_FLOOR: Duration = Duration::from_millis(25);

/// Shortest time between two ticks: the timer's resolution.
const TICK: Duration = Duration::from_millis(1);

impl Dispatch {
    /// When [`Dispatch::tick`] is due.
    pub(in crate::pool) fn armed(&self) -> Option<Instant> {
        self.armed
    }

    /// `waker` is woken when that moves forward.
    pub(in crate::pool) fn wake_when_armed(&mut self, waker: &Waker) {
        self.ticker = Some(waker.clone());
    }

    pub(super) fn arm(&mut self, at: Instant) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            if let Some(ticker) = self.ticker.take() {
                ticker.wake();
            }
        }
    }

    /// Does everything that is due at `now`.
    pub(in crate::pool) fn tick(&mut self, now: Instant) {
        for engine in &mut self.engines {
            engine.tick(&self.options, now);
        }
        self.fail_after_deadline(now);
        self.fail_fast(now);
        self.retry(now);
        self.suspect_the_silent(now);
        self.hedge(now);
        self.armed = self.next_event().map(|next| next.max(now + TICK));
    }

    /// Moves what only frozen engines have been asked for to an engine in good health; a call moves once for each of
    /// them, whatever the hedging budget.
    pub(super) fn leave_suspects(&mut self, now: Instant) {
        if !self.engines.iter().any(Engine::is_suspect) || !self.has_usable_engine() {
            return;
        }
        let stuck: Vec<CallKey> = self
            .calls
            .iter()
            .filter(|(_, call)| call.traits.quick && call.traits.repeatable && call.can_be_sent())
            .filter(|(_, call)| {
                call.attempts().next().is_some()
                    && call.attempts().all(|attempt| self.engines[attempt.engine].is_suspect())
            })
            .map(|(slot, call)| CallKey { slot: slot as u32, generation: call.generation })
            .collect();
        for key in stuck {
            self.counters.failovers += 1;
            self.place(key, None, now);
        }
    }

    fn suspect_the_silent(&mut self, now: Instant) {
        let patience = self.suspect_after();
        let is_silent = |engine: &Engine| engine.silence(now).is_some_and(|silence| silence >= patience);
        // If all are silent, it is more likely this machine than all of them.
        if !self.engines.iter().any(|engine| engine.is_healthy() && !is_silent(engine)) {
            return;
        }
        let mut found = false;
        for engine in self.engines.iter_mut().filter(|engine| engine.is_healthy()) {
            if is_silent(engine) {
                engine.suspected(now);
                found = true;
            }
        }
        if found {
            self.leave_suspects(now);
        }
    }

    fn hedge(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.hedges.front() {
            let is_open = self.call(key).is_some_and(|call| call.outcome.is_none());
            if is_open && due > now {
                return;
            }
            self.hedges.pop_front();
            // One that is queued, or was sent twice already because an engine failed, needs no hedge.
            let Some(call) = self.call(key).filter(|_| is_open) else { continue };
            if call.attempts().count() != 1 || call.queued_since.is_some() {
                continue;
            }
            let Some(at) = self.best_of(key, |_, engine| engine.is_healthy()) else { continue };
            if !self.budget.as_mut().is_some_and(super::Budget::spend) {
                continue;
            }
            self.counters.hedges += 1;
            self.send(key, at, now);
            if let Some(call) = self.call(key) {
                call.hedge = Some(at);
            }
        }
    }

    fn retry(&mut self, now: Instant) {
        while let Some(&Reverse((due, key))) = self.retries.peek() {
            if due > now {
                return;
            }
            self.retries.pop();
            if self.call(key).is_some_and(|call| call.attempts().next().is_none()) {
                self.place(key, None, now);
            }
        }
    }

    fn fail_after_deadline(&mut self, now: Instant) {
        if self.earliest_deadline.is_none_or(|earliest| now < earliest) {
            return;
        }
        self.earliest_deadline = None;
        for (_, call) in self.calls.iter_mut().filter(|(_, call)| call.outcome.is_none()) {
            if call.deadline <= now {
                self.counters.failures += 1;
                let unknown = !call.traits.repeatable && call.attempts().next().is_some();
                let operation = call.traits.name;
                call.finish(Err(if unknown {
                    Error::OutcomeUnknown { operation }
                } else {
                    Error::DeadlineExceeded
                }));
            } else if self.earliest_deadline.is_none_or(|earliest| call.deadline < earliest) {
                self.earliest_deadline = Some(call.deadline);
            }
        }
    }

    /// Fails what waits for any engine to come back; while one is logging in, there is hope.
    fn fail_fast(&mut self, now: Instant) {
        while let Some(&key) = self.queue.front() {
            if let Some(call) = self.call(key).filter(|call| call.outcome.is_none()) {
                let since = call.queued_since.unwrap_or(now);
                if self.can_hope() || now < since + self.options.fail_fast_after {
                    return;
                }
                let error = self.no_engine();
                self.fail(key, error);
            }
            self.queue.pop_front();
        }
    }

    fn can_hope(&self) -> bool {
        self.engines.iter().any(|engine| engine.is_ready() || engine.is_logging_in())
    }

    fn suspect_after(&self) -> Duration {
        let delay = self.latency.hedge_delay(&self.options.hedging.unwrap_or_default());
        (delay * SUSPECT_DELAYS).max(SUSPECT_FLOOR)
    }

    fn next_event(&mut self) -> Option<Instant> {
        let healthy = self.engines.iter().filter(|engine| engine.is_healthy()).count();
        let patience = (healthy > 1).then(|| self.suspect_after());
        let engines =
            self.engines.iter().filter_map(|engine| engine.next_event(&self.options, patience)).min();
        let queue = if self.can_hope() {
            None
        } else {
            let front = self.queue.front().copied().and_then(|key| self.call(key)?.queued_since);
            front.map(|since| since + self.options.fail_fast_after)
        };
        let hedge = self.hedges.front().map(|&(due, _)| due);
        let retry = self.retries.peek().map(|&Reverse((due, _))| due);
        [engines, queue, hedge, retry, self.earliest_deadline].into_iter().flatten().min()
    }
}
