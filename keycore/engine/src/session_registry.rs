//! Which sessions have connections to this replica: all that can truthfully be listed, because a token is stored nowhere.
//!
//! A connection that logs in takes a [`Seat`], and gives it back when it is dropped: with the connection, with a logout, or with
//! an answer that never reached its connection. So nothing is left behind, whichever of the threads was in between.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keycore_audit::Peer;
use keycore_wire::{
    MAX_SESSION_PEERS, RefusalCode, SessionHandle, SessionInfo, SessionPeer, UnixMillis, UserId,
};

use crate::denial::Denial;
use crate::engine::locked;
use crate::options::{Now, SessionLimits};
use crate::session::{Caller, Session};
use crate::snapshot::Snapshot;

/// All seats of this replica. Its lock may be taken while the snapshot is read, and nothing is while it is held.
#[derive(Default)]
pub(crate) struct SessionRegistry {
    seats: Mutex<BTreeMap<SeatKey, Seated>>,
    serial: AtomicU64,
}

/// A user's seats are neighbours, and so are a session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SeatKey {
    user: UserId,
    session: SessionHandle,
    serial: u64,
}

/// One connection that is logged in.
struct Seated {
    /// As this connection has it: one that set a new password goes on, others of the same login ended.
    session: Session,
    connection: u64,
    peer: Option<Peer>,
    last_use: Arc<LastUse>,
}

/// When something was last asked on a connection, by both clocks, in milliseconds.
struct LastUse {
    /// Since 1970, to be told and to be counted from.
    wall: AtomicU64,
    /// Since some point of this process, to be counted from.
    mono: AtomicU64,
}

/// A connection's place in the registry.
pub(crate) struct Seat {
    registry: Arc<SessionRegistry>,
    key: SeatKey,
    last_use: Arc<LastUse>,
}

impl LastUse {
    fn new(now: Now) -> Self {
        Self { wall: AtomicU64::new(now.wall.0), mono: AtomicU64::new(millis(now.mono)) }
    }

    /// By either clock: a machine that is suspended stops the one, and the other may be set back.
    fn is_longer_ago(&self, now: Now, than: Duration) -> bool {
        let mono = millis(now.mono).saturating_sub(self.mono.load(Ordering::Relaxed));
        let wall = now.wall.0.saturating_sub(self.wall.load(Ordering::Relaxed));
        mono.max(wall) >= millis(than)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl SessionRegistry {
    /// Seats a connection.
    ///
    /// Refused if its user has `most` sessions here and this is another one. What ended is not counted, nor is what the
    /// connection was logged in to before and gives up now.
    pub(crate) fn enter(
        self: &Arc<Self>,
        session: Session,
        caller: &Caller,
        snapshot: &Snapshot,
        now: Now,
        limits: SessionLimits,
        most: usize,
    ) -> Result<Seat, Denial> {
        let handle = SessionHandle(session.id);
        let mut seats = locked(&self.seats);
        let (mut counted, mut others, mut last) = (false, 0, None);
        for (key, seated) in of_user(&seats, Some(session.user)) {
            if !seated.is_good(snapshot, now, limits) {
                continue;
            }
            if key.session == handle {
                counted = true;
                break;
            }
            if seated.connection != caller.connection && last != Some(key.session) {
                others += 1;
                last = Some(key.session);
            }
        }
        if !counted && others >= most {
            let detail = format!(
                "this user has {others} sessions at this engine, and may have {most}: end one, or ask another engine"
            );
            return Err(Denial::new(RefusalCode::TooManySessions, detail));
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let key = SeatKey { user: session.user, session: handle, serial };
        let last_use = Arc::new(LastUse::new(now));
        let (connection, peer) = (caller.connection, caller.peer);
        seats.insert(key, Seated { session, connection, peer, last_use: Arc::clone(&last_use) });
        Ok(Seat { registry: Arc::clone(self), key, last_use })
    }

    /// The sessions that are still good, in the order of their handles: one user's, or all.
    pub(crate) fn list(
        &self,
        of: Option<UserId>,
        snapshot: &Snapshot,
        now: Now,
        limits: SessionLimits,
        asking: Option<[u8; 16]>,
    ) -> Vec<SessionInfo> {
        let mut found: Vec<SessionInfo> = Vec::new();
        for (key, seated) in of_user(&locked(&self.seats), of) {
            let Ok((principal, name)) = seated.session.check(snapshot, now) else { continue };
            if seated.has_idled(now, limits) {
                continue;
            }
            let last_used_at = UnixMillis(seated.last_use.wall.load(Ordering::Relaxed));
            let peer = seated.peer.map(listed);
            if found.last().is_none_or(|last| last.handle != key.session) {
                found.push(SessionInfo {
                    handle: key.session,
                    user: (*name).clone(),
                    role: principal.role,
                    issued_at: seated.session.issued_at(),
                    expires_at: seated.session.expires_at,
                    last_used_at,
                    current: asking == Some(key.session.0),
                    connections: 0,
                    peers: Vec::new(),
                });
            }
            let Some(info) = found.last_mut() else { continue };
            info.connections += 1;
            info.last_used_at = info.last_used_at.max(last_used_at);
            if let Some(peer) = peer.filter(|peer| !info.peers.contains(peer))
                && info.peers.len() < MAX_SESSION_PEERS
            {
                info.peers.push(peer);
            }
        }
        found.sort_unstable_by_key(|info| info.handle);
        found
    }

    /// A session that is still good, by its handle: among one user's, or all.
    pub(crate) fn find(
        &self,
        handle: SessionHandle,
        of: Option<UserId>,
        snapshot: &Snapshot,
        now: Now,
        limits: SessionLimits,
    ) -> Option<Session> {
        of_user(&locked(&self.seats), of)
            .find(|(key, seated)| key.session == handle && seated.is_good(snapshot, now, limits))
            .map(|(_, seated)| seated.session)
    }
}

impl Seat {
    /// Something was asked on its connection. Whether nothing was for so long before that its session is over.
    pub(crate) fn used(&self, now: Now, limits: SessionLimits) -> bool {
        if limits.has_idle() && self.last_use.is_longer_ago(now, limits.idle) {
            return true;
        }
        self.last_use.wall.store(now.wall.0, Ordering::Relaxed);
        self.last_use.mono.store(millis(now.mono), Ordering::Relaxed);
        false
    }

    /// Its session goes on with other credentials.
    pub(crate) fn renew(&self, session: Session) {
        if let Some(seated) = locked(&self.registry.seats).get_mut(&self.key) {
            seated.session = session;
        }
    }
}

impl Seated {
    fn has_idled(&self, now: Now, limits: SessionLimits) -> bool {
        limits.has_idle() && self.last_use.is_longer_ago(now, limits.idle)
    }

    fn is_good(&self, snapshot: &Snapshot, now: Now, limits: SessionLimits) -> bool {
        !self.has_idled(now, limits) && self.session.check(snapshot, now).is_ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        locked(&self.registry.seats).remove(&self.key);
    }
}

fn listed(peer: Peer) -> SessionPeer {
    match peer {
        Peer::Local { uid, gid, pid } => SessionPeer::Process { uid, gid, pid },
        Peer::Remote { address, certificate } => SessionPeer::Remote { address, certificate: certificate.0 },
    }
}

/// The seats of one user, or all.
fn of_user(
    seats: &BTreeMap<SeatKey, Seated>,
    user: Option<UserId>,
) -> impl Iterator<Item = (&SeatKey, &Seated)> {
    let first = SeatKey { user: user.unwrap_or(UserId([0; 16])), session: SessionHandle([0; 16]), serial: 0 };
    let last = SeatKey {
        user: user.unwrap_or(UserId([0xff; 16])),
        session: SessionHandle([0xff; 16]),
        serial: u64::MAX,
    };
    seats.range(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_while_the_machine_is_suspended_and_while_its_clock_is_set_back() {
        let at = |wall, mono| Now { wall: UnixMillis(wall), mono: Duration::from_millis(mono) };
        let used = LastUse::new(at(10_000, 100));
        let than = Duration::from_secs(1);
        assert!(!used.is_longer_ago(at(10_999, 1_099), than));
        assert!(used.is_longer_ago(at(11_000, 100), than), "suspended");
        assert!(used.is_longer_ago(at(5_000, 1_100), than), "set back");
        assert!(!used.is_longer_ago(at(5_000, 100), than));
    }
}
