//! Sessions: tokens that are good on every replica, and what a connection remembers of one.
//!
//! ```text
//! token = version (1) ‖ session (16) ‖ user (16) ‖ credential (8) ‖ issued (8) ‖ expires (8) [‖ used (8)] ‖ HMAC-SHA256 (32)
//! ```
//!
//! Nothing is stored when a token is issued. It is good while its user exists, has the password that it was issued
//! under, it is not revoked by a logout, and its time is not over; resuming never makes that time longer. A replica whose
//! sessions are shorter ends them earlier there, and leaves the token's own time as it is: as long is the token remembered once revoked.
//!
//! Where sessions end that are not used, resuming gives a token that says so, and the one that was shown is good as long as it was.
//! No replica knows of uses elsewhere: a connection that is not used ends by its replica's own clock, and a token by the last time
//! that it was renewed. Tokens of version 1 have no such time; they were used when they were issued, and
//! so long as that is true tokens are of version 1.

use core::time::Duration;
use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use keycore_audit::Peer;
use keycore_wire::{Secret, SessionToken, UnixMillis, UserId, UserName};

use crate::denial::Denial;
use crate::options::{Now, SessionLimits};
use crate::policy::Principal;
use crate::seal::SealingKeys;
use crate::session_registry::Seat;
use crate::snapshot::Snapshot;

const VERSION: u8 = 2;
const SIGNED: usize = 1 + 16 + 16 + 8 + 8 + 8 + 8;
/// Without the time of the last use.
const VERSION_1: u8 = 1;
const SIGNED_1: usize = SIGNED - 8;
const MAC: usize = 32;

/// A login, as its token says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: [u8; 16],
    pub(crate) user: UserId,
    /// Which of the user's passwords it was opened with.
    credential: u64,
    issued_at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    /// When its tokens expire that this replica's lifetime does not shorten: as long must a revocation last.
    pub(crate) token_expires_at: UnixMillis,
    /// When a token of it was last given out, by the clock of the engine that did.
    used_at: UnixMillis,
    /// It was not used for so long that it is over.
    idled: bool,
    /// The same end on this process's monotonic clock.
    deadline: Duration,
    /// Which generation of the cluster key its token was authenticated with; none for one that was opened here.
    generation: Option<u32>,
}

/// Who sent a request: one connection at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) connection: u64,
    /// None for the engine itself.
    pub(crate) peer: Option<Peer>,
    pub(crate) session: Option<Session>,
}

/// What an answer does to the connection's session.
pub(crate) enum SessionChange {
    Keep,
    /// With the connection's place in the list of sessions.
    Begin(Session, Seat),
    /// A token was refused, only because it was not used for too long: its session can be logged out on this connection, if there is
    /// no other on it, and nothing else.
    OnlyIdled(Session),
    /// The same session goes on, unless another one began meanwhile.
    Renew(Session),
    /// Ends this session, not another one that began meanwhile.
    End([u8; 16]),
}

impl Session {
    /// Opens a session from `now` on.
    pub(crate) fn open(
        user: UserId,
        credential: u64,
        now: Now,
        lifetime: Duration,
    ) -> Result<Self, Unspecified> {
        let mut id = [0; 16];
        rand::fill(&mut id)?;
        let expires_at = now.wall.plus(lifetime);
        Ok(Self {
            id,
            user,
            credential,
            issued_at: now.wall,
            expires_at,
            token_expires_at: expires_at,
            used_at: now.wall,
            idled: false,
            deadline: now.mono.saturating_add(lifetime),
            generation: None,
        })
    }

    /// The session's token. That of a resumed session is authenticated as the one that was shown: a generation that is given
    /// up because somebody may know it must not lend its trust to the next one.
    pub(crate) fn token(&self, keys: &SealingKeys) -> Result<SessionToken, Denial> {
        let mut token = Vec::with_capacity(SIGNED + MAC);
        // Without a later use a token is as replicas of the versions before know it, too.
        let was_used_later = self.used_at != self.issued_at;
        token.push(if was_used_later { VERSION } else { VERSION_1 });
        token.extend_from_slice(&self.id);
        token.extend_from_slice(&self.user.0);
        token.extend_from_slice(&self.credential.to_be_bytes());
        token.extend_from_slice(&self.issued_at.0.to_be_bytes());
        token.extend_from_slice(&self.token_expires_at.0.to_be_bytes());
        if was_used_later {
            token.extend_from_slice(&self.used_at.0.to_be_bytes());
        }
        let mac = match self.generation {
            None => keys.sign_token(&token),
            Some(generation) => keys
                .sign_token_of(generation, &token)
                .map_err(|_| Denial::session_ended("the cluster key was rotated since"))?,
        };
        token.extend_from_slice(mac.as_ref());
        Ok(SessionToken(Secret::new(token)))
    }

    /// Reads a token that this cluster issued. Whatever it says, the session lasts for its lifetime from now at most; from now on it
    /// is used, unless it was not for too long.
    pub(crate) fn resume(
        token: &SessionToken,
        keys: &SealingKeys,
        now: Now,
        limits: SessionLimits,
    ) -> Result<Self, Denial> {
        let not_ours = || Denial::session_ended("not a token of this cluster");
        let (signed, mac) = token.0.expose().split_last_chunk::<MAC>().ok_or_else(not_ours)?;
        let generation = keys.verify_token(signed, mac).map_err(|_| not_ours())?;
        let (&[version], rest) = signed.split_first_chunk::<1>().ok_or_else(not_ours)?;
        if !matches!((version, signed.len()), (VERSION, SIGNED) | (VERSION_1, SIGNED_1)) {
            return Err(not_ours());
        }
        let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(not_ours)?;
        let (user, rest) = rest.split_first_chunk::<16>().ok_or_else(not_ours)?;
        let mut numbers = rest.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let mut next = || numbers.next().ok_or_else(not_ours);
        let (credential, issued_at, token_expires_at) = (next()?, next()?, next()?);
        let used_at = next().unwrap_or(issued_at);
        // A clock that was set back since makes nothing longer: never more than the lifetime from now.
        let expires_at = token_expires_at.min(now.wall.plus(limits.lifetime).0);
        let left = expires_at.saturating_sub(now.wall.0.max(issued_at));
        Ok(Self {
            id: *id,
            user: UserId(*user),
            credential,
            issued_at: UnixMillis(issued_at),
            expires_at: UnixMillis(expires_at),
            token_expires_at: UnixMillis(token_expires_at),
            used_at: if limits.has_idle() { now.wall } else { UnixMillis(used_at) },
            idled: limits.has_idle() && now.wall >= UnixMillis(used_at).plus(limits.idle),
            deadline: now.mono.saturating_add(Duration::from_millis(left)),
            generation: Some(generation),
        })
    }

    /// Who it stands for, if it is still good.
    pub(crate) fn check(&self, snapshot: &Snapshot, now: Now) -> Result<(Principal, Arc<UserName>), Denial> {
        let stands_for = self.check_used_or_not(snapshot, now)?;
        if self.idled {
            return Err(Denial::session_ended("not used for longer than session-idle"));
        }
        Ok(stands_for)
    }

    /// Who it stands for, if it is good but for not being used. Enough for a logout and for nothing else: a copy of its token that was
    /// renewed elsewhere may live on, and whoever has any of them may end them all.
    pub(crate) fn check_used_or_not(
        &self,
        snapshot: &Snapshot,
        now: Now,
    ) -> Result<(Principal, Arc<UserName>), Denial> {
        if now.wall >= self.expires_at || now.mono >= self.deadline {
            return Err(Denial::session_ended("expired"));
        }
        let Some(user) = snapshot.users.get(&self.user) else {
            return Err(Denial::session_ended("the user was deleted"));
        };
        if user.credential != self.credential {
            return Err(Denial::session_ended("the credentials were changed, or an admin ended it"));
        }
        if snapshot.revoked.contains_key(&self.id) {
            return Err(Denial::session_ended("logged out"));
        }
        Ok((Principal { user: self.user, role: user.role, session: Some(*self) }, Arc::clone(&user.name)))
    }

    /// When it was opened, by the clock of the engine that did.
    pub(crate) fn issued_at(&self) -> UnixMillis {
        self.issued_at
    }

    /// Which of the user's passwords it was opened with.
    pub(crate) fn credential(&self) -> u64 {
        self.credential
    }

    /// The same session, which was not used for too long.
    pub(crate) fn idled(self) -> Self {
        Self { idled: true, ..self }
    }

    /// The same session, after its user set a new password in it.
    pub(crate) fn with_credential(self, credential: u64) -> Self {
        Self { credential, ..self }
    }

    /// How long it lasts from `now` on, in whole seconds.
    pub(crate) fn seconds_left(&self, now: Now) -> u32 {
        u32::try_from(self.expires_at.0.saturating_sub(now.wall.0) / 1000).unwrap_or(u32::MAX)
    }
}
