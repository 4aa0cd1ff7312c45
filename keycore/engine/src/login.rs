//! Logging in and out: passwords, peers' uids, and what guessing costs.

use core::num::NonZeroUsize;
use core::time::Duration;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use keycore_audit::{Peer, network_of};
use keycore_store::RecordId;
use keycore_wire::{Login, PeerLogin, RefusalCode, Role, UserId, UserName};
use lru::LruCache;

use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::options::Now;
use crate::password;
use crate::policy::Permission;
use crate::records::{ONLY, Revocation, StrayLogins, User};
use crate::session::Session;
use crate::users::{acting, find, put};

/// Wrong passwords in a row that lock an account: CloudHSM's "more than five".
pub(crate) const MAX_ATTEMPTS: u8 = 6;

/// Milliseconds that an admin's account is locked for after [`MAX_ATTEMPTS`] wrong passwords; doubled for each more.
const ADMIN_PAUSE: u64 = 15 * 60 * 1000;

/// Longest such pause, in milliseconds.
const LONGEST_ADMIN_PAUSE: u64 = 24 * 3600 * 1000;

/// Logged-out sessions that one logout cleans up, once their tokens are expired for [`REVOCATION_GRACE`].
const PRUNED_AT_ONCE: usize = 64;

/// Milliseconds that a revocation outlives its token, for replicas whose clocks are behind.
const REVOCATION_GRACE: u64 = 3_600_000;

/// Whose password was right.
pub(crate) struct Checked {
    pub(crate) id: UserId,
    pub(crate) credential: u64,
    /// Whether the password alone is not enough.
    pub(crate) second_factor: bool,
}

/// Checks a password and opens a session.
pub(crate) fn log_in(
    engine: &Engine,
    _permission: &Permission,
    request: &Login,
    peer: Option<Peer>,
    now: Now,
) -> Result<Session, Denial> {
    let _turn = engine.login_turn(request.user.as_str());
    let checked = check_password(engine, &request.user, request.password.expose(), now);
    if checked.is_err() {
        engine.guesses.count(peer, now);
    }
    let Checked { id, credential, second_factor } = checked?;
    if second_factor {
        return Err(Denial::new(
            RefusalCode::SecondFactorRequired,
            "this user has a second factor: sign a challenge as well",
        ));
    }
    Ok(Session::open(id, credential, now, engine.options.session_lifetime)?)
}

/// Opens a session for the user that the peer's uid belongs to.
pub(crate) fn log_in_peer(
    engine: &Engine,
    _permission: &Permission,
    request: &PeerLogin,
    peer: Option<Peer>,
    now: Now,
) -> Result<Session, Denial> {
    let uid = uid_of(peer);
    let user = engine.transact(|records| find(records, &request.user))?;
    match user {
        Some(user) if user.content.second_factor.is_some() => {
            Err(Denial::new(RefusalCode::SecondFactorRequired, "this user has a second factor"))
        }
        Some(user) if uid.is_some() && user.content.peer_uid == uid => {
            let (id, credential) = (UserId(user.id.0), user.content.credential);
            Ok(Session::open(id, credential, now, engine.options.session_lifetime)?)
        }
        found => {
            engine.guesses.count(peer, now);
            Err(Denial::new(RefusalCode::BadCredentials, "this process's uid is not that user's")
                .because(if found.is_some() { "another uid is the user's, or none" } else { "no such user" }))
        }
    }
}

/// Ends a session on every replica, and forgets those that ended by themselves. Whose it may be, the caller knows.
pub(crate) fn revoke(
    engine: &Engine,
    permission: &Permission,
    session: &Session,
    now: Now,
) -> Result<(), Denial> {
    let actor = permission.actor()?;
    let needless: Vec<_> = engine
        .snapshot()
        .revoked
        .iter()
        .filter(|(id, revoked)| {
            **id != session.id && revoked.expires_at.0.saturating_add(REVOCATION_GRACE) < now.wall.0
        })
        .map(|(id, revoked)| (RecordId(*id), revoked.version))
        .take(PRUNED_AT_ONCE)
        .collect();
    let id = RecordId(session.id);
    engine.transact(|records| {
        acting(records, actor)?;
        for &(old, version) in &needless {
            // A sibling may have been faster.
            if records.load::<Revocation>(old)?.is_some_and(|found| found.version == version) {
                records.delete::<Revocation>(old, version);
            }
        }
        // Who has another of its tokens may have ended it already, and that one may expire earlier.
        let found = records.load::<Revocation>(id)?;
        if found.as_ref().is_some_and(|found| found.content.expires_at >= session.token_expires_at) {
            return Ok(());
        }
        let revocation = Revocation { expires_at: session.token_expires_at };
        records.put(id, found.map(|found| found.version), &revocation, Vec::new(), None)
    })
}

/// Counts the attempt in the store, then checks the password, then forgets the attempts if it was right. Whatever the
/// number of replicas and of guesses at the same time, no more than [`MAX_ATTEMPTS`] wrong ones are ever checked, and of
/// an admin's one more after each pause.
///
/// A name that nobody has costs as much: a write and a hash. A locked account costs the hash, too, so that asking for it
/// fills no disk with audit records.
pub(crate) fn check_password(
    engine: &Engine,
    name: &UserName,
    password: &[u8],
    now: Now,
) -> Result<Checked, Denial> {
    let counted = engine.transact(|records| {
        let Some(mut user) = find(records, name)? else {
            let stray = records.load::<StrayLogins>(ONLY)?;
            let count = stray.as_ref().map_or(0, |stray| stray.content.count) + 1;
            records.put(ONLY, stray.map(|stray| stray.version), &StrayLogins { count }, Vec::new(), None)?;
            return Ok(None);
        };
        check_not_locked(&user.content, now)?;
        user.content.attempts = user.content.attempts.saturating_add(1);
        user.content.last_attempt = now.wall;
        put(records, UserId(user.id.0), Some(user.version), &user.content)?;
        Ok(Some(user))
    });
    let stored = match &counted {
        Ok(Some(user)) => user.content.password.as_ref(),
        _ => None,
    };
    let right = match stored {
        Some(stored) => {
            engine.password_checks.fetch_add(1, Ordering::Relaxed);
            password::is_right(stored, password)?
        }
        None => {
            password::spend(engine.options.password_cost, password)?;
            false
        }
    };
    let Some(user) = counted? else { return Err(Denial::bad_credentials("no such user")) };
    if !right {
        return Err(Denial::bad_credentials(match (&user.content.password, user.content.attempts) {
            (None, _) => "the user has no password",
            (_, MAX_ATTEMPTS..) => "wrong password; the account is locked now",
            _ => "wrong password",
        }));
    }
    let credential = user.content.credential;
    engine.transact(|records| {
        let now = records.load::<User>(user.id)?;
        let Some(mut now) = now.filter(|now| now.content.credential == credential) else {
            return Err(Denial::bad_credentials("the user was deleted or the credentials changed meanwhile"));
        };
        now.content.attempts = 0;
        put(records, UserId(now.id.0), Some(now.version), &now.content)
    })?;
    let second_factor = user.content.second_factor.is_some();
    Ok(Checked { id: UserId(user.id.0), credential, second_factor })
}

/// A locked account stays so until an admin sets a new password. An admin's own opens for one attempt after a pause: else
/// whoever reaches the socket could lock every admin out for good.
fn check_not_locked(user: &User, now: Now) -> Result<(), Denial> {
    let Some(more) = user.attempts.checked_sub(MAX_ATTEMPTS) else { return Ok(()) };
    let locked = |detail: String| Err(Denial::new(RefusalCode::AccountLocked, detail));
    if user.role != Role::Admin {
        return locked("too many wrong passwords; an admin unlocks the account with a new password".into());
    }
    let pause = (ADMIN_PAUSE << more.min(8)).min(LONGEST_ADMIN_PAUSE);
    if now.wall.0 >= user.last_attempt.0.saturating_add(pause) {
        return Ok(());
    }
    locked(format!(
        "too many wrong passwords; {} minutes after the last one another can be tried, or another admin sets a new password",
        pause / 60_000
    ))
}

/// Failed logins of each peer, so that one local user, or one machine, can't spend another one's attempts, or this engine's processor, at
/// will. In memory and per engine: the count that no replica may exceed is the lockout's, in the store.
pub(crate) struct GuessLimit(Mutex<LruCache<Source, Bucket>>);

/// Whom a failed login is counted against.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// The engine itself.
    Engine,
    /// All processes of one local user.
    Uid(u32),
    /// All remote clients of one network.
    Network(IpAddr),
}

impl Source {
    fn of(peer: Option<Peer>) -> Self {
        match peer {
            None => Self::Engine,
            Some(Peer::Local { uid, .. }) => Self::Uid(uid),
            Some(Peer::Remote { address, .. }) => Self::Network(network_of(address.ip())),
        }
    }
}

/// Failures that drain away, one each [`GuessLimit::DRAIN`].
#[derive(Clone, Copy)]
struct Bucket {
    failures: u32,
    since: Duration,
}

impl GuessLimit {
    /// Failures at once.
    const BURST: u32 = 32;

    /// How long one failure counts.
    const DRAIN: Duration = Duration::from_secs(1);

    /// Peers that are remembered.
    const PEERS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

    /// Whether a peer may try to log in.
    pub(crate) fn admit(&self, peer: Option<Peer>, now: Now) -> Result<(), Denial> {
        let bucket = locked(&self.0).peek(&Source::of(peer)).map(|bucket| bucket.drained(now));
        if bucket.is_some_and(|bucket| bucket.failures >= Self::BURST) {
            return Err(Denial::new(
                RefusalCode::LoginThrottled,
                "too many failed logins from this peer; wait a minute",
            ));
        }
        Ok(())
    }

    /// Counts a failure.
    pub(crate) fn count(&self, peer: Option<Peer>, now: Now) {
        let mut peers = locked(&self.0);
        let empty = Bucket { failures: 0, since: now.mono };
        let bucket = peers.peek(&Source::of(peer)).map_or(empty, |bucket| bucket.drained(now));
        peers.put(Source::of(peer), Bucket { failures: bucket.failures.saturating_add(1), ..bucket });
    }
}

/// The uid that the kernel vouches for; a remote client has none.
fn uid_of(peer: Option<Peer>) -> Option<u32> {
    match peer? {
        Peer::Local { uid, .. } => Some(uid),
        Peer::Remote { .. } => None,
    }
}

impl Default for GuessLimit {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(Self::PEERS)))
    }
}

impl Bucket {
    fn drained(self, now: Now) -> Self {
        let drained = now.mono.saturating_sub(self.since).as_secs() / GuessLimit::DRAIN.as_secs();
        let drained = u32::try_from(drained).unwrap_or(u32::MAX);
        Self {
            failures: self.failures.saturating_sub(drained),
            since: self.since + GuessLimit::DRAIN.saturating_mul(drained),
        }
    }
}
