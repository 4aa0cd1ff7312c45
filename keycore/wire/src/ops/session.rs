use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::SessionHandle;
use crate::names::UserName;
use crate::session::{Role, UnixMillis};

/// Most entries of one [`SessionPage`].
pub const MAX_SESSION_PAGE: u16 = 64;

/// Most peers that one entry names.
pub const MAX_SESSION_PEERS: usize = 16;

/// Lists the sessions that have a connection to the asked replica, in the order of their handles, a page at a time. Needs a
/// login; sessions of others need the role admin.
///
/// No engine stores a login: a session without a connection anywhere is in no replica's list, and good all the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionList {
    /// Whose.
    pub of: SessionsOf,
    /// The last handle of the page before, or none for the first page.
    pub after: Option<SessionHandle>,
    /// Most entries wanted; [`MAX_SESSION_PAGE`] at most are given.
    pub limit: u16,
}

/// Whose sessions are listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionsOf {
    /// One's own.
    Own,
    /// This user's.
    User(UserName),
    /// Everybody's.
    All,
}

/// Ends one session on every replica: one's own, or as an admin anybody's.
///
/// Refused with `NotFound` if it has no connection to the asked replica, whoever's it is: ask each of them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SessionEnd {
    /// Which.
    pub session: SessionHandle,
}

/// A session that has a connection to the replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its name; nobody can log in with it.
    pub handle: SessionHandle,
    /// Who.
    pub user: UserName,
    /// What the user may do.
    pub role: Role,
    /// When it began, by the clock of the engine that logged it in.
    pub issued_at: UnixMillis,
    /// When it ends by itself.
    pub expires_at: UnixMillis,
    /// When something but a ping was last asked in it of this replica.
    pub last_used_at: UnixMillis,
    /// Whether it is the one that asks.
    pub current: bool,
    /// Its connections to this replica.
    pub connections: u32,
    /// Who is at their other ends, each once; [`MAX_SESSION_PEERS`] at most.
    pub peers: Vec<SessionPeer>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SessionPeer {
    /// A process of the same machine, as the kernel tells (SO_PEERCRED, unix(7)).
    Process {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Process id.
        pid: u32,
    },
    /// Another machine, over TLS.
    Remote {
        /// Where it connects from.
        address: SocketAddr,
        /// SHA-256 of its client certificate in DER.
        certificate: [u8; 32],
    },
}

/// One page of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionInfo>,
    /// Whether there are more behind the last one.
    pub more: bool,
}
