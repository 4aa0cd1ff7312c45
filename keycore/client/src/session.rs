//! The protocol of one connection, without its socket: bytes in, bytes out.
//!
//! States: the hello is sent at once; when it is answered, logins and requests may be sent. A login is optional and
//! may be repeated at any time (it replaces the engine's session for this connection). Whatever the engine says
//! against the protocol is a [`ProtocolError`], after which the connection must be closed.

use keycore_wire::frame::{FrameError, HEADER, MAX_FRAME, MAX_HELLO_FRAME};
use keycore_wire::{
    Hello, HelloReply, Limits, Login, Operation, Refusal, ReplyError, Resume, SessionGrant, VERSION,
    decode_reply, encode_request,
};
use slab::Slab;
use zeroize::Zeroizing;

use crate::identity::FirstLogin;

mod buffer;
#[cfg(test)]
mod tests;

use buffer::{Inbox, Outbox};

/// Most bytes that wait to be written: a frozen engine's share of memory.
const MAX_UNWRITTEN: usize = 1024 * 1024;

/// Requests of the limit that are kept back for pings and logins.
const RESERVED: usize = 2;

/// One connection. `T` says whose a request is; it comes back with the reply.
pub(crate) struct Session<T> {
    inbox: Inbox,
    outbox: Outbox,
    in_flight: Slab<(u32, Expected<T>)>,
    /// Upper half of the next request id, so that a reply given twice is not taken for that of the next request.
    generation: u16,
    limits: Option<Limits>,
}

enum Expected<T> {
    Hello,
    Login(&'static str),
    Request(T),
}

/// What the engine said.
pub(crate) enum Event<'a, T> {
    /// The hello is answered: requests may be sent.
    Hello(HelloReply),
    /// The connection is logged in.
    LoggedIn(SessionGrant),
    /// The login was refused.
    LoginRefused(Refusal),
    /// A request is answered; `body` is undecoded.
    Reply {
        /// As given to [`Session::request`].
        tag: T,
        /// Status and content.
        body: &'a [u8],
    },
}

/// The engine is broken, or speaks something else: the connection can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("it sent a {0}")]
    Frame(#[from] FrameError),
    #[error("it answered request {0:#010x}, which was not asked")]
    UnknownRequest(u32),
    #[error("its reply to {0} can't be decoded")]
    Undecodable(&'static str),
    #[error("it refused the hello: {0}")]
    HelloRefused(Refusal),
    #[error("it chose protocol version {0}, which was not offered")]
    Version(u16),
}

/// The request can't be sent here, or not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The hello isn't answered yet, or the engine's limit or the buffer's is reached.
    Full,
    /// The engine would not take a frame of this length.
    TooLong { length: usize, limit: usize },
}

impl<T> Session<T> {
    /// A new connection; the hello waits to be written.
    pub(crate) fn new(client_name: &str) -> Self {
        let mut session = Self {
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            in_flight: Slab::new(),
            generation: 0,
            limits: None,
        };
        let end = (0..=64).rev().find(|&at| client_name.is_char_boundary(at)).unwrap_or(0);
        let name = client_name.get(..end).unwrap_or(client_name);
        session.send(Expected::Hello, &encoded(&Hello::new(name)), false);
        session
    }

    /// Sends a request whose body is encoded already.
    pub(crate) fn request(&mut self, tag: T, body: &[u8], secret: bool) -> Result<(), NotSent> {
        self.check(body, RESERVED)?;
        self.send(Expected::Request(tag), body, secret);
        Ok(())
    }

    /// Sends a request of the client's own, out of the reserve.
    pub(crate) fn own_request<O: Operation>(&mut self, tag: T, operation: &O) -> Result<(), NotSent> {
        let body = encoded(operation);
        self.check(&body, 0)?;
        self.send(Expected::Request(tag), &body, false);
        Ok(())
    }

    /// Logs in with a password, or without one.
    pub(crate) fn login(&mut self, login: &FirstLogin) -> Result<(), NotSent> {
        match login {
            FirstLogin::Password(login) => self.send_login(login),
            FirstLogin::Peer(login) => self.send_login(login),
        }
    }

    /// Logs in with a token.
    pub(crate) fn resume(&mut self, resume: &Resume) -> Result<(), NotSent> {
        self.send_login(resume)
    }

    /// Whether a request can be sent now.
    pub(crate) fn has_room(&self) -> bool {
        self.room(RESERVED)
    }

    /// Requests without an answer, logins and the hello included.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Ends the connection: whose requests have no answer.
    pub(crate) fn into_unanswered(mut self) -> Vec<T> {
        self.in_flight
            .drain()
            .filter_map(|(_, expected)| match expected {
                Expected::Request(tag) => Some(tag),
                Expected::Hello | Expected::Login(_) => None,
            })
            .collect()
    }

    /// What waits to be written.
    pub(crate) fn unwritten(&self) -> &[u8] {
        self.outbox.unwritten()
    }

    /// So many bytes of [`Session::unwritten`] were written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.outbox.wrote(bytes);
    }

    /// Where to read into; never empty as long as events are taken until there is none.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let limit = self.frame_limit();
        self.inbox.space(limit)
    }

    /// So many bytes were read into [`Session::space`].
    pub(crate) fn received(&mut self, bytes: usize) {
        self.inbox.received(bytes);
    }

    /// The next thing that the engine said, if all of it is here.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`]: close the connection. What is said after it is not trusted.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event<'_, T>>, ProtocolError> {
        let limit = self.frame_limit();
        let Some((id, body)) = self.inbox.next_frame(limit)? else { return Ok(None) };
        let slot = (id & 0xffff) as usize;
        if self.in_flight.get(slot).is_none_or(|(expected, _)| *expected != id) {
            return Err(ProtocolError::UnknownRequest(id));
        }
        match self.in_flight.remove(slot).1 {
            Expected::Request(tag) => Ok(Some(Event::Reply { tag, body: self.inbox.bytes(body) })),
            Expected::Hello => self.greeted(body).map(Some),
            Expected::Login(name) => {
                let reply = decode_reply::<Login>(self.inbox.bytes(body.clone()));
                self.inbox.wipe(body);
                match reply {
                    Ok(grant) => Ok(Some(Event::LoggedIn(grant))),
                    Err(ReplyError::Refused(refusal)) => Ok(Some(Event::LoginRefused(refusal))),
                    Err(ReplyError::Undecodable { .. }) => Err(ProtocolError::Undecodable(name)),
                }
            }
        }
    }

    fn greeted(&mut self, body: core::ops::Range<usize>) -> Result<Event<'_, T>, ProtocolError> {
        let reply = decode_reply::<Hello<'_>>(self.inbox.bytes(body)).map_err(|error| match error {
            ReplyError::Refused(refusal) => ProtocolError::HelloRefused(refusal),
            ReplyError::Undecodable { operation } => ProtocolError::Undecodable(operation),
        })?;
        if reply.version != VERSION {
            return Err(ProtocolError::Version(reply.version));
        }
        self.limits = Some(reply.limits);
        Ok(Event::Hello(reply))
    }

    fn send_login<O: Operation<Reply = SessionGrant>>(&mut self, login: &O) -> Result<(), NotSent> {
        let body = encoded(login);
        self.check(&body, 0)?;
        self.send(Expected::Login(O::NAME), &body, true);
        Ok(())
    }

    fn room(&self, reserved: usize) -> bool {
        let Some(limits) = self.limits else { return false };
        let most = usize::from(limits.max_in_flight);
        // An engine that takes only very few requests at once leaves nothing to keep back.
        let most = if most > 2 * RESERVED { most - reserved } else { most.max(1) };
        self.in_flight.len() < most && self.outbox.unwritten().len() < MAX_UNWRITTEN
    }

    fn check(&self, body: &[u8], reserved: usize) -> Result<(), NotSent> {
        let length = HEADER + body.len();
        if self.limits.is_some() && length > self.frame_limit() {
            return Err(NotSent::TooLong { length, limit: self.frame_limit() });
        }
        if self.room(reserved) { Ok(()) } else { Err(NotSent::Full) }
    }

    fn send(&mut self, expected: Expected<T>, body: &[u8], secret: bool) {
        let entry = self.in_flight.vacant_entry();
        // The slot fits: `check` bounds how many are taken by a `u16`.
        let id = u32::from(self.generation) << 16 | (entry.key() as u32 & 0xffff);
        self.generation = self.generation.wrapping_add(1);
        entry.insert((id, expected));
        self.outbox.frame(id, body, secret);
    }

    fn frame_limit(&self) -> usize {
        match self.limits {
            None => MAX_HELLO_FRAME,
            Some(limits) => (limits.max_frame as usize).clamp(MAX_HELLO_FRAME, MAX_FRAME),
        }
    }
}

/// The body of a request, in memory that is wiped.
pub(crate) fn encoded<O: Operation>(operation: &O) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(512));
    // A request type that can't be encoded is a bug of the vocabulary; the engine refuses the empty body.
    let _ = encode_request(operation, &mut body);
    body
}
