use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keycore_wire::{Blame, HelloReply, Ping, Refusal, SessionGrant};
use zeroize::Zeroizing;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::identity::{Credential, Identity, LoginPermit, blames_the_password};
use crate::operation::Traits;
use crate::session::{Event, NotSent, Session};
use crate::stream::Stream;

/// How long to wait for another thread's login before asking again.
const LOGIN_POLL: Duration = Duration::from_millis(5);

/// One open connection.
pub(super) struct Link {
    stream: Stream,
    session: Session<Tag>,
    calls: u64,
    token_serial: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Call(u64),
    Ping,
}

/// Why there is no answer. `sent`: the engine may have read the whole request.
pub(super) enum Unanswered {
    Lost { fault: Fault, sent: bool },
    Deadline { sent: bool },
    TooLong { length: usize, limit: usize },
}

enum Said {
    Nothing,
    Hello(HelloReply),
    Login(Result<SessionGrant, Refusal>),
    Answer(Tag, Zeroizing<Vec<u8>>),
}

impl Link {
    /// Connects and greets.
    pub(super) fn open(endpoint: &Endpoint, deadline: Instant) -> Result<(Self, HelloReply), Fault> {
        let started = Instant::now();
        let left = deadline.saturating_duration_since(started);
        let stream = endpoint.connect_blocking(left).map_err(Fault::Connect)?;
        let session = Session::new(concat!("keycore-client/", env!("CARGO_PKG_VERSION")));
        let mut link = Self { stream, session, calls: 0, token_serial: None };
        loop {
            match link.turn(deadline)? {
                Said::Hello(hello) => return Ok((link, hello)),
                Said::Nothing if Instant::now() >= deadline => {
                    return Err(Fault::Silent { what: "the hello", after: started.elapsed() });
                }
                _ => {}
            }
        }
    }

    /// Logs in, with the identity's token if it has one, else with its password.
    pub(super) fn login(&mut self, identity: &Arc<Identity>, deadline: Instant) -> Result<(), Fault> {
        let started = Instant::now();
        loop {
            let (sent, permit) = match identity.credential(Instant::now()) {
                Credential::Resume { resume, serial } => {
                    self.token_serial = Some(serial);
                    (self.session.resume(&resume), None)
                }
                Credential::Login { login, permit } => (self.session.login(&login), Some(permit)),
                Credential::Wait if Instant::now() >= deadline => {
                    return Err(Fault::Silent { what: "another login", after: started.elapsed() });
                }
                Credential::Wait => {
                    std::thread::sleep(LOGIN_POLL);
                    continue;
                }
                Credential::Refused(refusal) => return Err(Fault::Login(refusal)),
                Credential::Unavailable(error) => return Err(Fault::Identity(error)),
            };
            sent.map_err(|_| Fault::NoRoom)?;
            match self.login_answer(deadline, started)? {
                Ok(grant) => {
                    self.token_serial = Some(identity.granted(grant, Instant::now()).serial);
                    return Ok(());
                }
                Err(refusal) => {
                    let resumed = permit.is_none();
                    if !self.login_refused(identity, &refusal, permit) || !resumed {
                        return Err(Fault::Login(refusal));
                    }
                }
            }
        }
    }

    /// The engine said during a call that the session is over.
    pub(super) fn session_ended(&mut self, identity: &Identity, refusal: &Refusal) {
        if let Some(serial) = self.token_serial.take() {
            identity.token_refused(serial, refusal, Instant::now());
        }
    }

    /// Sends a request and waits for its answer. An engine that is silent for `patience` is asked whether it lives;
    /// if it is silent again so long, it counts as lost.
    pub(super) fn ask(
        &mut self,
        body: &[u8],
        traits: Traits,
        deadline: Instant,
        patience: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, Unanswered> {
        self.calls += 1;
        let tag = Tag::Call(self.calls);
        match self.session.request(tag, body, traits.secret) {
            Ok(()) => {}
            Err(NotSent::TooLong { length, limit }) => return Err(Unanswered::TooLong { length, limit }),
            Err(NotSent::Full) => return Err(Unanswered::Lost { fault: Fault::NoRoom, sent: false }),
        }
        let mut pinged = false;
        let mut sent = false;
        loop {
            let until = Instant::now().checked_add(patience).map_or(deadline, |at| at.min(deadline));
            let said = self.turn(until);
            sent |= self.session.unwritten().is_empty();
            match said.map_err(|fault| Unanswered::Lost { fault, sent })? {
                Said::Answer(answered, body) if answered == tag => return Ok(body),
                Said::Nothing if Instant::now() >= deadline => return Err(Unanswered::Deadline { sent }),
                Said::Nothing if Instant::now() >= until && pinged => {
                    let fault = Fault::Silent { what: "a ping", after: patience };
                    return Err(Unanswered::Lost { fault, sent });
                }
                Said::Nothing if Instant::now() >= until => {
                    pinged = self.session.own_request(Tag::Ping, &Ping).is_ok();
                }
                Said::Nothing => {}
                // A ping's, or that of an earlier request that was given up.
                _ => pinged = false,
            }
        }
    }

    fn login_answer(
        &mut self,
        deadline: Instant,
        started: Instant,
    ) -> Result<Result<SessionGrant, Refusal>, Fault> {
        loop {
            match self.turn(deadline)? {
                Said::Login(result) => return Ok(result),
                Said::Nothing if Instant::now() >= deadline => {
                    return Err(Fault::Silent { what: "the login", after: started.elapsed() });
                }
                _ => {}
            }
        }
    }

    /// Notes a refused login; whether another credential may do better.
    fn login_refused(
        &mut self,
        identity: &Arc<Identity>,
        refusal: &Refusal,
        permit: Option<LoginPermit>,
    ) -> bool {
        let now = Instant::now();
        match (permit, refusal.code) {
            (Some(_permit), code) if blames_the_password(code) => {
                identity.password_refused(refusal, now);
                false
            }
            (None, code) if code.blame() != Blame::Engine => {
                self.session_ended(identity, refusal);
                true
            }
            _ => false,
        }
    }

    /// Returns what the engine said, after writing and reading at most once each and until `until`.
    fn turn(&mut self, until: Instant) -> Result<Said, Fault> {
        loop {
            if let Some(said) = self.said()? {
                return Ok(said);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Said::Nothing);
            }
            if !self.session.unwritten().is_empty() {
                self.stream.set_write_timeout(left).map_err(Fault::Io)?;
                match self.stream.write(self.session.unwritten()) {
                    Ok(wrote) => self.session.wrote(wrote),
                    Err(error) if is_temporary(&error) => {}
                    Err(error) => return Err(Fault::Io(error)),
                }
                continue;
            }
            self.stream.set_read_timeout(left).map_err(Fault::Io)?;
            match self.stream.read(self.session.space()) {
                Ok(0) => return Err(Fault::Closed),
                Ok(read) => self.session.received(read),
                Err(error) if is_temporary(&error) => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }

    fn said(&mut self) -> Result<Option<Said>, Fault> {
        Ok(self.session.next_event()?.map(|event| match event {
            Event::Hello(hello) => Said::Hello(hello),
            Event::LoggedIn(grant) => Said::Login(Ok(grant)),
            Event::LoginRefused(refusal) => Said::Login(Err(refusal)),
            Event::Reply { tag, body } => Said::Answer(tag, Zeroizing::new(body.to_vec())),
        }))
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
