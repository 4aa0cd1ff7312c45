//! One engine as the pool sees it: phase of its connection, login, silence. No I/O, takes `now`.

use std::task::Waker;
use std::time::Duration;

use keycore_wire::{Ping, Refusal};
use tokio::time::Instant;
use tracing::{info, warn};

use super::call::CallKey;
use super::options::PoolOptions;
use super::status::{EngineCounters, EngineState, EngineStatus};
use crate::endpoint::Endpoint;
use crate::error::EngineFailure;
use crate::fault::Fault;
use crate::session::{NotSent, Session};

mod login;

use login::Login;

/// A connection that was ready for so long was no accident: after its loss, the next try is made at once.
const LASTING: Duration = Duration::from_secs(1);

/// Whose a request is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tag {
    /// A call's.
    Call {
        key: CallKey,
        quick: bool,
    },
    Ping,
}

impl Tag {
    fn is_quick(self) -> bool {
        match self {
            Self::Call { quick, .. } => quick,
            Self::Ping => true,
        }
    }
}

/// One engine.
pub(super) struct Engine {
    endpoint: Endpoint,
    phase: Phase,
    login: Login,
    ready: bool,
    /// When this connection was ready for the first time.
    ready_since: Option<Instant>,
    suspect: bool,
    session: Option<Session<Tag>>,
    /// Why the connection has to be closed.
    fault: Option<Fault>,
    /// The task that reads and writes; taken when it is woken, so that it is woken once.
    writer: Option<Waker>,
    /// Requests without an answer that an engine in good health answers within milliseconds.
    quick: usize,
    /// When the last byte came, or the first of the `quick` was sent if that was later.
    silent_since: Instant,
    heard: Instant,
    /// What the identity's token is called that this connection logged in with.
    token_serial: Option<u64>,
    logged_in_at: Option<Instant>,
    login_refusal: Option<Refusal>,
    last_error: Option<String>,
    /// The last loss that was logged, so that a retry that fails alike is not.
    logged_error: Option<String>,
    pub(super) counters: EngineCounters,
}

enum Phase {
    Down { since: Instant },
    Connecting,
    Greeting { until: Instant },
    Open,
}

impl Engine {
    pub(super) fn new(endpoint: Endpoint, now: Instant) -> Self {
        Self {
            endpoint,
            phase: Phase::Down { since: now },
            login: Login::Idle { refresh_at: None },
            ready: false,
            ready_since: None,
            suspect: false,
            session: None,
            fault: None,
            writer: None,
            quick: 0,
            silent_since: now,
            heard: now,
            token_serial: None,
            logged_in_at: None,
            login_refusal: None,
            last_error: None,
            logged_error: None,
            counters: EngineCounters::default(),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn session(&mut self) -> Option<&mut Session<Tag>> {
        self.session.as_mut()
    }

    /// Connected and logged in; frozen, perhaps.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.ready && !self.suspect
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Whether it spoke to us and may become ready at any moment.
    pub(super) fn is_logging_in(&self) -> bool {
        let under_way = match self.login {
            Login::Idle { .. } => false,
            Login::Due { .. } => self.last_error.is_none(),
            Login::Asked { .. } => true,
        };
        under_way && matches!(self.phase, Phase::Open)
    }

    pub(super) fn has_room(&self) -> bool {
        self.session.as_ref().is_some_and(Session::has_room)
    }

    /// Which of several engines is asked: the one where this is least, in requests that wait before another.
    pub(super) fn cost_of_another(&self) -> usize {
        /// A system call and a wake-up on either side, which a request saves that leaves in the write of others.
        const WAKE: usize = 8;
        /// An engine that is at work takes what comes meanwhile together, and need not be woken.
        const JOIN: usize = 4;
        let in_flight = self.in_flight();
        let joins_a_write = self.session.as_ref().is_some_and(|session| !session.unwritten().is_empty());
        in_flight
            + match in_flight {
                _ if joins_a_write => 0,
                0 => WAKE,
                _ => JOIN,
            }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.session.as_ref().map_or(0, Session::in_flight)
    }

    /// Why nobody could log in here, if that is what keeps it from being ready.
    pub(super) fn login_refusal(&self) -> Option<&Refusal> {
        self.login_refusal.as_ref()
    }

    pub(super) fn failure(&self) -> EngineFailure {
        let reason = match (&self.last_error, &self.phase) {
            (Some(error), _) => error.clone(),
            (None, Phase::Open) => "is silent".to_owned(),
            (None, _) => "not connected yet".to_owned(),
        };
        EngineFailure { endpoint: self.endpoint.clone(), reason }
    }

    pub(super) fn status(&self) -> EngineStatus {
        let in_flight = self.in_flight();
        let state = match self.phase {
            Phase::Down { since } => EngineState::Down { since },
            _ if self.ready && self.suspect => EngineState::Suspect { in_flight },
            _ if self.ready => EngineState::Connected { in_flight },
            _ => EngineState::Connecting,
        };
        EngineStatus {
            endpoint: self.endpoint.clone(),
            state,
            counters: self.counters,
            last_error: self.last_error.clone(),
        }
    }

    pub(super) fn connecting(&mut self) {
        // A retry of an engine that was never reached is no progress worth reporting.
        if self.last_error.is_none() {
            self.phase = Phase::Connecting;
        }
    }

    pub(super) fn opened(&mut self, options: &PoolOptions, now: Instant) {
        self.phase = Phase::Greeting { until: now + options.connect_timeout };
        self.session = Some(Session::new(&options.client_name));
        self.login = Login::Idle { refresh_at: None };
        self.fault = None;
        self.quick = 0;
        self.heard = now;
    }

    /// The hello is answered.
    pub(super) fn greeted(&mut self, options: &PoolOptions, now: Instant) {
        self.phase = Phase::Open;
        self.last_error = None;
        match &options.identity {
            None => self.become_ready(now),
            Some(identity) => self.log_in(identity, options, now),
        }
    }

    /// Sends a request.
    pub(super) fn request(
        &mut self,
        key: CallKey,
        quick: bool,
        secret: bool,
        body: &[u8],
        now: Instant,
    ) -> Result<(), NotSent> {
        let Some(session) = &mut self.session else { return Err(NotSent::Full) };
        session.request(Tag::Call { key, quick }, body, secret)?;
        self.counters.requests += 1;
        self.sent(quick, now);
        Ok(())
    }

    /// Bytes came; whether the engine was thought frozen.
    pub(super) fn heard(&mut self, bytes: usize, now: Instant) -> bool {
        if let Some(session) = &mut self.session {
            session.received(bytes);
        }
        self.heard = now;
        self.silent_since = now;
        let recovered = core::mem::take(&mut self.suspect);
        if recovered {
            info!(engine = %self.endpoint, "the engine answers again");
        }
        recovered
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, tag: Tag) {
        if tag.is_quick() {
            self.quick = self.quick.saturating_sub(1);
        }
        if let Tag::Call { .. } = tag {
            self.counters.answers += 1;
        }
    }

    /// A quick operation was answered after this time.
    pub(super) fn took(&mut self, latency: Duration) {
        self.counters.timed_answers += 1;
        self.counters.answer_time += latency;
    }

    pub(super) fn suspected(&mut self, now: Instant) {
        self.suspect = true;
        self.counters.suspicions += 1;
        let silent = now.duration_since(self.silent_since);
        warn!(engine = %self.endpoint, ?silent, "the engine owes answers and is silent; asking others");
    }

    /// How long the engine has owed an answer that should have come at once.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        (self.ready && self.quick > 0).then(|| now.duration_since(self.silent_since))
    }

    /// The connection has to be closed; nothing new is sent on it.
    pub(super) fn condemn(&mut self, fault: Fault) {
        self.ready = false;
        self.last_error = Some(fault.to_string());
        self.fault.get_or_insert(fault);
        self.wake_writer();
    }

    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// The connection is gone: whose requests have no answer, and whether it had been a good one for a while.
    pub(super) fn lost(&mut self, fault: &Fault, now: Instant) -> (Vec<Tag>, bool) {
        let connected = self.session.is_some();
        let lasted = self.ready_since.take().is_some_and(|since| now.duration_since(since) >= LASTING);
        self.logged_in_at = None;
        let text = fault.to_string();
        if self.logged_error.as_ref() != Some(&text) {
            warn!(engine = %self.endpoint, error = text, "no connection to the engine");
            self.logged_error = Some(text.clone());
        }
        self.last_error = Some(text);
        self.login_refusal = None;
        if !matches!(self.phase, Phase::Down { .. }) {
            self.phase = Phase::Down { since: now };
        }
        if connected {
            self.counters.losses += 1;
        }
        self.ready = false;
        self.suspect = false;
        self.fault = None;
        self.quick = 0;
        self.login = Login::Idle { refresh_at: None };
        self.token_serial = None;
        (self.session.take().map(Session::into_unanswered).unwrap_or_default(), lasted)
    }

    /// Does what is due at `now`: timeouts, logins, pings.
    pub(super) fn tick(&mut self, options: &PoolOptions, now: Instant) {
        match (&self.phase, &self.login) {
            (Phase::Greeting { until }, _) if *until <= now => {
                self.condemn(Fault::Silent { what: "the hello", after: options.connect_timeout });
            }
            (Phase::Open, Login::Asked { until, .. }) if *until <= now => {
                self.condemn(Fault::Silent { what: "the login", after: options.login_timeout });
            }
            (Phase::Open, Login::Due { at: due } | Login::Idle { refresh_at: Some(due) }) if *due <= now => {
                if let Some(identity) = &options.identity {
                    self.log_in(identity, options, now);
                }
            }
            _ => {}
        }
        if self.silence(now).is_some_and(|silence| silence >= options.drop_after) {
            self.condemn(Fault::Silent { what: "requests", after: options.drop_after });
        }
        if self.ready && self.quick == 0 && now.duration_since(self.heard) >= options.ping_interval {
            let pinged =
                self.session.as_mut().is_some_and(|session| session.own_request(Tag::Ping, &Ping).is_ok());
            if pinged {
                self.sent(true, now);
            } else {
                // No room even for a ping: the limit is full of slow requests, or nothing is being read.
                self.heard = now;
            }
        }
    }

    /// When [`Engine::tick`] has something to do; `suspect_after` if silence for so long matters now.
    pub(super) fn next_event(
        &self,
        options: &PoolOptions,
        suspect_after: Option<Duration>,
    ) -> Option<Instant> {
        if self.fault.is_some() {
            return None;
        }
        let login = match (&self.phase, &self.login) {
            (Phase::Greeting { until }, _) => Some(*until),
            (Phase::Open, Login::Asked { until, .. }) => Some(*until),
            (Phase::Open, Login::Due { at }) => Some(*at),
            (Phase::Open, Login::Idle { refresh_at }) => *refresh_at,
            _ => None,
        };
        let silence = match (self.ready, self.quick) {
            (false, _) => None,
            (true, 0) => Some(self.heard + options.ping_interval),
            (true, _) => {
                let patience = suspect_after.filter(|_| !self.suspect).unwrap_or(options.drop_after);
                Some(self.silent_since + patience.min(options.drop_after))
            }
        };
        login.into_iter().chain(silence).min()
    }

    /// The task that writes, to be woken when there is something to write; none while it is at it.
    pub(super) fn set_writer(&mut self, writer: Option<Waker>) {
        self.writer = writer;
    }

    fn become_ready(&mut self, now: Instant) {
        if self.ready_since.is_none() {
            info!(engine = %self.endpoint, "the engine is ready");
            self.counters.connects += 1;
        }
        self.ready = true;
        self.ready_since.get_or_insert(now);
        self.suspect = false;
        self.last_error = None;
        self.logged_error = None;
        self.login_refusal = None;
    }

    fn sent(&mut self, quick: bool, now: Instant) {
        if quick {
            if self.quick == 0 {
                self.silent_since = now;
            }
            self.quick += 1;
        }
        self.wake_writer();
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}
