//! The driver for tools: blocking, one connection at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keycore_wire::{Blame, HelloReply, Operation, Refusal, ReplyError, decode_reply};

use crate::endpoint::Endpoint;
use crate::error::{EngineFailure, Error};
use crate::fault::Fault;
use crate::identity::Identity;
use crate::operation::{Traits, ends_the_session};
use crate::session::{ProtocolError, encoded};

mod link;
#[cfg(test)]
mod tests;

use link::{Link, Unanswered};

/// How long to wait before all engines are tried once more.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(400)];

/// One connection to one engine, moved to the next engine when it is lost.
///
/// A call that may be repeated goes to the next engine when the connection is lost, when the engine is silent for so
/// long that it must be frozen, and when it refuses for reasons of its own; when every engine was tried, all are
/// tried again, three times in about half a second, so that a restart of the only engine goes unnoticed.
pub struct Client {
    endpoints: Vec<Endpoint>,
    current: usize,
    link: Option<Link>,
    hello: HelloReply,
    identity: Option<Arc<Identity>>,
    timeout: Duration,
}

impl Client {
    /// Connects to the first of `endpoints` that answers a hello; all of it takes at most `timeout`, and so will each
    /// call.
    ///
    /// # Errors
    ///
    /// [`Error::NoEngine`] with what became of each.
    pub fn connect(endpoints: &[Endpoint], timeout: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + timeout;
        let mut engines = Vec::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            match Link::open(endpoint, share(deadline, endpoints.len() - at)) {
                Ok((link, hello)) => {
                    return Ok(Self {
                        endpoints: endpoints.to_vec(),
                        current: at,
                        link: Some(link),
                        hello,
                        identity: None,
                        timeout,
                    });
                }
                Err(fault) => engines.push(failure(endpoint, &fault)),
            }
        }
        Err(Error::NoEngine { engines })
    }

    /// What the engine in use said of itself.
    pub fn hello(&self) -> &HelloReply {
        &self.hello
    }

    /// The engine in use.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoints[self.current]
    }

    /// Logs in, here and on every engine that the client moves to later.
    ///
    /// # Errors
    ///
    /// [`Error::Login`] if the engine refuses, [`Error::Identity`] if the password can't be read, and those of a lost
    /// engine.
    pub fn login(&mut self, identity: &Arc<Identity>) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let before = self.identity.replace(Arc::clone(identity));
        // A connection that is open already is someone else's, or nobody's.
        let mut failures = Failures::default();
        if let Some(link) = &mut self.link {
            match link.login(identity, deadline) {
                Ok(()) => return Ok(()),
                Err(fault) => failures.lost(&self.endpoints[self.current], &fault),
            }
            if let Some(error) = failures.login.take() {
                self.identity = before;
                return Err(error);
            }
            self.link = None;
        }
        self.connect_somewhere(deadline, &mut failures).inspect_err(|_| self.identity = before)
    }

    /// Asks, and waits for the reply.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the engine's refusal; [`Error::OutcomeUnknown`] if the connection was lost during an
    /// operation that may not be repeated; [`Error::NoEngine`] if every engine was tried in vain;
    /// [`Error::DeadlineExceeded`] after the time given to [`Client::connect`]; [`Error::TooLarge`].
    pub fn call<T: Operation>(&mut self, operation: &T) -> Result<T::Reply, Error> {
        let traits = const { Traits::of::<T>() };
        let deadline = Instant::now() + self.timeout;
        let patience = self.patience(traits);
        let body = encoded(operation);
        let mut failures = Failures::default();
        let mut may_log_in = true;
        loop {
            if self.link.is_none() {
                self.connect_somewhere(deadline, &mut failures)?;
            }
            let Some(link) = &mut self.link else { continue };
            let answer = match link.ask(&body, traits, deadline, patience) {
                Ok(answer) => answer,
                Err(unanswered) => {
                    self.link = None;
                    self.unanswered(unanswered, traits, &mut failures, deadline)?;
                    continue;
                }
            };
            match decode_reply::<T>(&answer) {
                Ok(reply) => return Ok(reply),
                Err(ReplyError::Refused(refusal)) if !traits.may_retry_after(refusal.code) => {
                    return Err(Error::Refused(refusal));
                }
                Err(ReplyError::Refused(refusal)) if ends_the_session(refusal.code) => {
                    let Some(identity) = self.identity.as_ref().filter(|_| may_log_in) else {
                        return Err(Error::Refused(refusal));
                    };
                    may_log_in = false;
                    link.session_ended(identity, &refusal);
                    if let Err(fault) = link.login(identity, deadline) {
                        self.link = None;
                        failures.lost(&self.endpoints[self.current], &fault);
                        if let Some(error) = failures.login.take() {
                            return Err(error);
                        }
                    }
                }
                Err(ReplyError::Refused(refusal)) => {
                    failures.refused(self.endpoint(), refusal);
                    failures.tried(self.endpoints.len(), deadline)?;
                    if self.endpoints.len() > 1 {
                        self.link = None;
                    }
                }
                Err(ReplyError::Undecodable { operation }) => {
                    self.link = None;
                    let fault = Fault::Protocol(ProtocolError::Undecodable(operation));
                    let lost = Unanswered::Lost { fault, sent: true };
                    self.unanswered(lost, traits, &mut failures, deadline)?;
                }
            }
        }
    }

    /// Notes that the connection is lost, or says why the call ends here.
    fn unanswered(
        &self,
        why: Unanswered,
        traits: Traits,
        failures: &mut Failures,
        deadline: Instant,
    ) -> Result<(), Error> {
        let unknown = Error::OutcomeUnknown { operation: traits.name };
        match why {
            Unanswered::TooLong { length, limit } => {
                Err(Error::TooLarge { operation: traits.name, length, limit })
            }
            Unanswered::Deadline { sent } if sent && !traits.repeatable => Err(unknown),
            Unanswered::Deadline { .. } => Err(Error::DeadlineExceeded),
            Unanswered::Lost { sent, .. } if sent && !traits.repeatable => Err(unknown),
            Unanswered::Lost { fault, .. } => {
                failures.lost(self.endpoint(), &fault);
                failures.tried(self.endpoints.len(), deadline)
            }
        }
    }

    /// Tries the engines in turn, beginning behind the one that was lost, until one is connected and logged in.
    fn connect_somewhere(&mut self, deadline: Instant, failures: &mut Failures) -> Result<(), Error> {
        loop {
            for left in (1..=self.endpoints.len()).rev() {
                self.current = (self.current + 1) % self.endpoints.len();
                let endpoint = &self.endpoints[self.current];
                let opened = Link::open(endpoint, share(deadline, left)).and_then(|(mut link, hello)| {
                    if let Some(identity) = &self.identity {
                        link.login(identity, deadline)?;
                    }
                    Ok((link, hello))
                });
                match opened {
                    Ok((link, hello)) => {
                        self.hello = hello;
                        self.link = Some(link);
                        return Ok(());
                    }
                    Err(fault) => failures.lost(endpoint, &fault),
                }
                if let Some(error) = failures.login.take() {
                    return Err(error);
                }
            }
            failures.pause(deadline)?;
        }
    }

    /// How long an engine may be silent before it is asked whether it lives, and then again so long. An operation
    /// that may not be repeated gains nothing by giving up on a silent engine.
    fn patience(&self, traits: Traits) -> Duration {
        if !traits.repeatable {
            return Duration::MAX;
        }
        let engines = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX).max(1);
        (self.timeout / engines.saturating_mul(4)).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}

/// What went wrong during one call.
#[derive(Default)]
struct Failures {
    engines: Vec<EngineFailure>,
    /// The last refusal that was worth retrying.
    refusal: Option<Refusal>,
    /// Engines that were asked in vain, each time counted.
    tried: usize,
    /// A login was refused: no other engine will say otherwise.
    login: Option<Error>,
    pauses: usize,
}

impl Failures {
    fn lost(&mut self, endpoint: &Endpoint, fault: &Fault) {
        if let Fault::Login(refusal) = fault
            && refusal.code.blame() != Blame::Engine
        {
            self.login = Some(Error::Login(refusal.clone()));
        }
        self.engines.retain(|engine| engine.endpoint != *endpoint);
        self.engines.push(failure(endpoint, fault));
    }

    fn refused(&mut self, endpoint: &Endpoint, refusal: Refusal) {
        self.engines.retain(|engine| engine.endpoint != *endpoint);
        self.engines.push(EngineFailure { endpoint: endpoint.clone(), reason: refusal.to_string() });
        self.refusal = Some(refusal);
    }

    /// An engine was asked in vain; after the last one, waits before the next round, or gives up.
    fn tried(&mut self, engines: usize, deadline: Instant) -> Result<(), Error> {
        self.tried += 1;
        if self.tried.is_multiple_of(engines.max(1)) { self.pause(deadline) } else { Ok(()) }
    }

    /// Waits before the engines are tried again, or gives up.
    fn pause(&mut self, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        match PAUSES.get(self.pauses) {
            Some(&pause) if pause < left => {
                self.pauses += 1;
                std::thread::sleep(pause);
                Ok(())
            }
            _ => Err(match self.refusal.take() {
                Some(refusal) => Error::Refused(refusal),
                None => Error::NoEngine { engines: core::mem::take(&mut self.engines) },
            }),
        }
    }
}

/// The deadline for one of `engines` that have to share the time until `deadline`. A hello takes microseconds: only the
/// last one gets more than a second for it.
fn share(deadline: Instant, engines: usize) -> Instant {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    let engines = u32::try_from(engines).unwrap_or(u32::MAX).max(1);
    let part = left / engines;
    now + if engines > 1 { part.min(Duration::from_secs(1)) } else { part }
}

fn failure(endpoint: &Endpoint, fault: &Fault) -> EngineFailure {
    EngineFailure { endpoint: endpoint.clone(), reason: fault.to_string() }
}
