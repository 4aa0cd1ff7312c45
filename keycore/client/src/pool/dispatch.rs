//! Which engine is asked, when another one is, and when a call has failed. No I/O, takes `now`.
//!
//! A call is queued, or has one or more attempts (requests without an answer), or waits for its next try after a
//! refusal, or has an outcome. What is lost or late is handled here at once, without waiting for the caller's task to
//! run. `timing.rs` holds what happens as time passes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::task::Waker;
use std::time::Duration;

use keycore_wire::{Ping, Refusal, RefusalCode, ReplyError, decode_reply};
use slab::Slab;
use tokio::time::Instant;

use super::call::{Attempt, Call, CallKey};
use super::engine::{Engine, Tag};
use super::hedging::{Budget, Latency};
use super::options::PoolOptions;
use super::status::PoolCounters;
use crate::error::Error;
use crate::fault::Fault;
use crate::operation::{Traits, ends_the_session};
use crate::session::{Event, NotSent, ProtocolError, Session};

mod timing;

/// Most requests made for one call, repetitions of all kinds together.
const MAX_TRIES: u8 = 8;

/// State of one pool.
pub(super) struct Dispatch {
    options: PoolOptions,
    engines: Vec<Engine>,
    calls: Slab<Call>,
    next_generation: u32,
    /// Calls for which no engine had room, oldest first; names of calls that ended meanwhile are skipped.
    queue: VecDeque<CallKey>,
    /// When calls are late, soonest first (nearly: the delay adapts).
    hedges: VecDeque<(Instant, CallKey)>,
    /// When refused calls are tried again.
    retries: BinaryHeap<Reverse<(Instant, CallKey)>>,
    /// No call has an earlier one.
    earliest_deadline: Option<Instant>,
    budget: Option<Budget>,
    latency: Latency,
    /// Which engine wins the next tie.
    rotation: usize,
    counters: PoolCounters,
    armed: Option<Instant>,
    ticker: Option<Waker>,
    waiting_for_usable: Vec<Waker>,
}

impl Dispatch {
    pub(super) fn new(options: PoolOptions, now: Instant) -> Self {
        Self {
            engines: options.endpoints.iter().map(|endpoint| Engine::new(endpoint.clone(), now)).collect(),
            calls: Slab::new(),
            next_generation: 0,
            queue: VecDeque::new(),
            hedges: VecDeque::new(),
            retries: BinaryHeap::new(),
            earliest_deadline: None,
            budget: options.hedging.as_ref().map(Budget::new),
            latency: Latency::new(),
            rotation: 0,
            counters: PoolCounters::default(),
            armed: None,
            ticker: None,
            waiting_for_usable: Vec::new(),
            options,
        }
    }

    /// Longest that connecting may take, and the hello after it.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    pub(super) fn engines(&self) -> &[Engine] {
        &self.engines
    }

    pub(super) fn session(&mut self, at: usize) -> Option<&mut Session<Tag>> {
        self.engines[at].session()
    }

    pub(super) fn take_fault(&mut self, at: usize) -> Option<Fault> {
        self.engines[at].take_fault()
    }

    pub(super) fn set_writer(&mut self, at: usize, writer: Option<Waker>) {
        self.engines[at].set_writer(writer);
    }

    pub(super) fn call(&mut self, key: CallKey) -> Option<&mut Call> {
        self.calls.get_mut(key.slot as usize).filter(|call| call.generation == key.generation)
    }

    pub(super) fn has_usable_engine(&self) -> bool {
        self.engines.iter().any(Engine::is_healthy)
    }

    pub(super) fn wake_when_usable(&mut self, waker: &Waker) {
        if !self.waiting_for_usable.iter().any(|other| other.will_wake(waker)) {
            self.waiting_for_usable.push(waker.clone());
        }
    }

    pub(super) fn counters(&self) -> PoolCounters {
        let hedging = self.options.hedging.as_ref();
        PoolCounters {
            latency_p99: self.latency.p99().unwrap_or_default(),
            hedge_delay: hedging.map(|hedging| self.latency.hedge_delay(hedging)).unwrap_or_default(),
            waiting: self.queue.len(),
            ..self.counters
        }
    }

    /// Begins a call; its outcome is told to the waker in it.
    pub(super) fn begin(
        &mut self,
        traits: Traits,
        body: Vec<u8>,
        deadline: Instant,
        now: Instant,
    ) -> CallKey {
        self.counters.calls += 1;
        if let Some(budget) = &mut self.budget {
            budget.earn();
        }
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let slot = self.calls.insert(Call::new(generation, traits, body, deadline));
        // Far more calls than 2³² would not fit in memory.
        let key = CallKey { slot: slot as u32, generation };
        if deadline <= now {
            self.fail(key, Error::DeadlineExceeded);
            return key;
        }
        if self.earliest_deadline.is_none_or(|earliest| deadline < earliest) {
            self.earliest_deadline = Some(deadline);
            self.arm(deadline);
        }
        self.place(key, None, now);
        if let (true, Some(hedging)) = (traits.quick && self.engines.len() > 1, &self.options.hedging) {
            let late = now + self.latency.hedge_delay(hedging);
            self.hedges.push_back((late, key));
            self.arm(late);
        }
        key
    }

    /// The caller has its outcome, or gave up.
    pub(super) fn remove(&mut self, key: CallKey) {
        if self.call(key).is_some() {
            self.calls.remove(key.slot as usize);
        }
    }

    pub(super) fn connecting(&mut self, at: usize) {
        self.engines[at].connecting();
    }

    /// The socket is connected: the hello waits to be written.
    pub(super) fn opened(&mut self, at: usize, now: Instant) {
        self.engines[at].opened(&self.options, now);
        self.arm(now + self.options.connect_timeout);
    }

    /// So many bytes were read into the session's space.
    pub(super) fn received(&mut self, at: usize, bytes: usize, now: Instant) {
        let was_healthy = self.engines[at].is_healthy();
        self.engines[at].heard(bytes, now);
        while let Some(session) = self.engines[at].session() {
            match session.next_event() {
                Ok(None) => break,
                Err(error) => {
                    self.engines[at].condemn(Fault::Protocol(error));
                    break;
                }
                Ok(Some(Event::Reply { tag, body })) => {
                    let mut took = None;
                    let refusal = match tag {
                        Tag::Ping => None,
                        Tag::Call { key, .. } => {
                            let call = self.calls.get_mut(key.slot as usize);
                            let call = call.filter(|call| call.generation == key.generation);
                            call.and_then(|call| {
                                let sample = settle(call, at, body, now, &mut self.counters.hedge_wins);
                                match sample {
                                    Settled::Answered(latency) => took = latency,
                                    Settled::Refused(refusal) => return Some((key, refusal)),
                                }
                                None
                            })
                        }
                    };
                    self.engines[at].answered(tag);
                    if let Some(latency) = took {
                        self.latency.add(latency);
                        self.engines[at].took(latency);
                    }
                    if let Some((key, refusal)) = refusal {
                        self.refused(key, at, refusal, now);
                    }
                }
                Ok(Some(Event::Hello(_))) => self.engines[at].greeted(&self.options, now),
                Ok(Some(Event::LoggedIn(grant))) => self.engines[at].logged_in(&self.options, grant, now),
                Ok(Some(Event::LoginRefused(refusal))) => {
                    self.engines[at].login_refused(&self.options, refusal, now);
                }
            }
        }
        if let Some(next) = self.engines[at].next_event(&self.options, None) {
            self.arm(next);
        }
        if self.engines[at].is_healthy() && !was_healthy {
            self.became_healthy(now);
        } else if !self.queue.is_empty() {
            self.drain_queue(now);
        }
    }

    /// The connection is gone; whether it had been a good one for a while. What was in flight on it goes elsewhere.
    pub(super) fn lost(&mut self, at: usize, fault: &Fault, now: Instant) -> bool {
        let (unanswered, lasted) = self.engines[at].lost(fault, now);
        for tag in unanswered {
            let Tag::Call { key, .. } = tag else { continue };
            let Some(call) = self.call(key) else { continue };
            call.ended(at);
            if call.outcome.is_some() || call.attempts().next().is_some() {
                continue;
            }
            if !call.traits.repeatable {
                let operation = call.traits.name;
                self.fail(key, Error::OutcomeUnknown { operation });
            } else if call.tries >= MAX_TRIES {
                let error = self.no_engine();
                self.fail(key, error);
            } else {
                self.counters.failovers += 1;
                self.place(key, None, now);
            }
        }
        lasted
    }

    /// An answer from this engine makes no sense: nothing else that it says is believed.
    pub(super) fn undecodable(&mut self, at: usize, operation: &'static str) {
        self.engines[at].condemn(Fault::Protocol(ProtocolError::Undecodable(operation)));
    }

    /// Why nothing can be asked.
    pub(super) fn no_engine(&self) -> Error {
        match self.engines.iter().find_map(Engine::login_refusal) {
            Some(refusal) => Error::Login(refusal.clone()),
            None => Error::NoEngine { engines: self.engines.iter().map(Engine::failure).collect() },
        }
    }

    /// Sends the call to the best engine that has not been asked, rather not to `avoid`; else queues it.
    fn place(&mut self, key: CallKey, avoid: Option<usize>, now: Instant) {
        let Some(call) = self.call(key).filter(|call| call.can_be_sent()) else { return };
        if call.queued_since.is_some() {
            return;
        }
        if let Some(at) = self.best_engine(key, avoid) {
            self.send(key, at, now);
        } else if self.queue.len() >= self.options.max_waiting {
            self.fail(key, Error::TooManyWaiting);
        } else {
            if let Some(call) = self.call(key) {
                call.queued_since = Some(now);
            }
            self.queue.push_back(key);
            self.arm(now + self.options.fail_fast_after);
        }
    }

    fn best_engine(&mut self, key: CallKey, avoid: Option<usize>) -> Option<usize> {
        let healthy = self.best_of(key, |at, engine| engine.is_healthy() && Some(at) != avoid);
        let again = |at: usize, engine: &Engine| engine.is_healthy() && Some(at) == avoid;
        healthy.or_else(|| self.best_of(key, again)).or_else(|| {
            // If all are frozen, whichever thaws first may have it.
            let unasked = self.call(key)?.attempts().next().is_none();
            if unasked { self.best_of(key, |_, engine| engine.is_ready()) } else { None }
        })
    }

    fn best_of(&mut self, key: CallKey, fits: impl Fn(usize, &Engine) -> bool) -> Option<usize> {
        let count = self.engines.len();
        let call = self.calls.get(key.slot as usize)?;
        let best = (0..count)
            .map(|step| (self.rotation + step) % count)
            .filter(|&at| fits(at, &self.engines[at]) && self.engines[at].has_room() && !call.is_asked(at))
            .min_by_key(|&at| self.engines[at].cost_of_another())?;
        self.rotation = (best + 1) % count;
        Some(best)
    }

    fn send(&mut self, key: CallKey, at: usize, now: Instant) {
        let Some(call) =
            self.calls.get_mut(key.slot as usize).filter(|call| call.generation == key.generation)
        else {
            return;
        };
        let Traits { name: operation, quick, secret, .. } = call.traits;
        match self.engines[at].request(key, quick, secret, &call.body, now) {
            Ok(()) => call.sent(Attempt { engine: at, sent: now }),
            Err(NotSent::TooLong { length, limit }) => {
                self.fail(key, Error::TooLarge { operation, length, limit });
            }
            // Whoever chose the engine looked for room; a call that got none waits for its deadline.
            Err(NotSent::Full) => {}
        }
    }

    /// An engine refused; whether for good decides the operation.
    fn refused(&mut self, key: CallKey, at: usize, refusal: Refusal, now: Instant) {
        let ended = ends_the_session(refusal.code);
        if ended {
            self.engines[at].session_ended(&self.options, &refusal, now);
        }
        if matches!(refusal.code, RefusalCode::SelfTestFailed | RefusalCode::Sealed) {
            self.engines[at].stopped(&refusal, now);
        }
        let can_log_in = self.options.identity.is_some();
        let Some(call) = self.call(key) else { return };
        let may_retry = call.traits.may_retry_after(refusal.code) && (can_log_in || !ended);
        if !may_retry || call.tries >= MAX_TRIES {
            // Another engine that is still at it may do better, unless the content is to blame.
            if !may_retry || call.attempts().next().is_none() {
                self.fail(key, Error::Refused(refusal));
            }
            return;
        }
        if call.attempts().next().is_some() {
            return;
        }
        let tries = u32::from(call.tries);
        self.engines[at].counters.refusals_retried += 1;
        self.counters.failovers += 1;
        let other = self.best_of(key, |other, engine| other != at && engine.is_healthy());
        match other {
            Some(other) if tries < u32::from(MAX_TRIES) / 2 => self.send(key, other, now),
            _ if ended => self.place(key, Some(at), now),
            _ => {
                let again = now + timing::RETRY_PAUSE * (1 << tries.min(6));
                self.retries.push(Reverse((again, key)));
                self.arm(again);
            }
        }
    }

    /// An engine can be used (again): give it what waits, and what a frozen one owes.
    fn became_healthy(&mut self, now: Instant) {
        for waker in self.waiting_for_usable.drain(..) {
            waker.wake();
        }
        self.drain_queue(now);
        self.leave_suspects(now);
        // Others that are silent may be called frozen now.
        self.arm(now);
    }

    fn drain_queue(&mut self, now: Instant) {
        while let Some(&key) = self.queue.front() {
            if self.still_needs_an_engine(key) {
                let Some(at) = self.best_engine(key, None) else { return };
                self.send(key, at, now);
            }
            if let Some(call) = self.call(key) {
                call.queued_since = None;
            }
            self.queue.pop_front();
        }
    }

    /// Whether this queued call is still open, and not with an engine that was frozen and answers again.
    fn still_needs_an_engine(&self, key: CallKey) -> bool {
        let call = self.calls.get(key.slot as usize).filter(|call| call.generation == key.generation);
        call.is_some_and(|call| {
            call.can_be_sent() && !call.attempts().any(|attempt| self.engines[attempt.engine].is_healthy())
        })
    }

    fn fail(&mut self, key: CallKey, error: Error) {
        if !matches!(error, Error::Refused(_)) {
            self.counters.failures += 1;
        }
        if let Some(call) = self.call(key) {
            call.finish(Err(error));
        }
    }
}

enum Settled {
    /// With the latency, if it is one to learn from.
    Answered(Option<Duration>),
    Refused(Refusal),
}

/// Gives a reply to its call, unless another engine was faster.
fn settle(call: &mut Call, at: usize, body: &[u8], now: Instant, hedge_wins: &mut u64) -> Settled {
    let attempt = call.ended(at);
    if call.outcome.is_some() {
        return Settled::Answered(None);
    }
    // The status and the form of a refusal are the same for all operations.
    if let Err(ReplyError::Refused(refusal)) = decode_reply::<Ping>(body) {
        return Settled::Refused(refusal);
    }
    call.answered(at, body);
    if call.hedge == Some(at) {
        *hedge_wins += 1;
    }
    let latency = attempt.filter(|_| call.traits.quick).map(|attempt| now.duration_since(attempt.sent));
    Settled::Answered(latency)
}
