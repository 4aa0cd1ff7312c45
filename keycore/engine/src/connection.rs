use keycore_audit::Peer;
use keycore_wire::UserId;
use keycore_wire::frame::MAX_HELLO_FRAME;

use crate::journal::Throttle;
use crate::session::{Caller, Session};
use crate::session_registry::Seat;

/// What the engine remembers of one connection: whether it said hello, and who is logged in.
pub struct Connection {
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    pub(crate) hello: bool,
    pub(crate) session: Option<Session>,
    /// Its place in the list of sessions, as long as it is logged in.
    pub(crate) seat: Option<Seat>,
    pub(crate) throttle: Throttle,
    pub(crate) max_frame: usize,
}

impl Connection {
    /// Its number in the audit log, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Longest frame that it may send now, header included, in bytes: short until the hello is answered.
    pub fn max_frame(&self) -> usize {
        if self.hello { self.max_frame } else { MAX_HELLO_FRAME }
    }

    /// Whether the hello is answered.
    pub fn said_hello(&self) -> bool {
        self.hello
    }

    /// Whether somebody logged in on it. The session may have ended since.
    pub fn is_logged_in(&self) -> bool {
        self.session.is_some()
    }

    /// Who logged in on it. The session may have ended since.
    pub fn user(&self) -> Option<UserId> {
        self.session.map(|session| session.user)
    }

    /// Who connected.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller { connection: self.number, peer: Some(self.peer), session: self.session }
    }
}
