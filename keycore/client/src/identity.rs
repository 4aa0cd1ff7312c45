//! Who logs in. One session token serves all connections of the process; one password hash at a time is asked for.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keycore_wire::{
    Login, PeerLogin, Refusal, RefusalCode, Resume, Secret, SessionGrant, SessionToken, UserName,
};
use subtle::ConstantTimeEq;

mod password_file;
#[cfg(test)]
mod tests;

use password_file::Stamp;
pub use password_file::{IdentityError, read_password, read_password_file};

/// First pause after a wrong password; doubled each time, so that no account is locked by a server that retries.
const PAUSE: Duration = Duration::from_secs(60);

/// Longest pause after a wrong password.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Who logs in: a user's password, or a session token of an earlier login.
///
/// Shared by all connections and threads of a process. The first login uses the password (which costs the engine a
/// hash), all others the token that it gave. When the token is about to expire, or is refused, one connection uses
/// the password again while the others wait for it. A password that was refused is not tried again for a minute,
/// then two, and so on, or until its file changes: engines lock accounts after a few wrong ones.
pub struct Identity {
    user: Option<UserName>,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    password: Option<Secret>,
    by_peer: bool,
    stamp: Option<Stamp>,
    token: Option<Token>,
    next_serial: u64,
    /// A connection logs in with the password just now.
    permit_out: bool,
    refused: Option<Refused>,
}

struct Token {
    secret: Secret,
    serial: u64,
    refresh_at: Option<Instant>,
    expires_at: Option<Instant>,
}

struct Refused {
    refusal: Refusal,
    until: Instant,
    pause: Duration,
}

/// What a connection should do to log in.
pub(crate) enum Credential {
    /// Use this token.
    Resume { resume: Resume, serial: u64 },
    /// Log in anew, and keep the permit until it is answered.
    Login { login: FirstLogin, permit: LoginPermit },
    /// Another connection uses the password: ask again in some milliseconds.
    Wait,
    /// The engines refused it; ask again in a second, in case the password file changed.
    Refused(Refusal),
    /// The password can't be read.
    Unavailable(IdentityError),
}

/// A login that needs no token.
pub(crate) enum FirstLogin {
    Password(Login),
    /// By the uid of this process, which the kernel tells the engine.
    Peer(PeerLogin),
}

/// The right to have the password hashed; given back when dropped.
pub(crate) struct LoginPermit(Arc<Identity>);

/// A connection's login.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoggedIn {
    /// Which token it is of, for [`Identity::token_refused`].
    pub(crate) serial: u64,
    /// When to ask for a credential again.
    pub(crate) refresh_at: Option<Instant>,
}

impl Identity {
    /// Logs in with this password.
    pub fn with_password(user: UserName, password: Secret) -> Arc<Self> {
        Self::new(Some(user), None, State { password: Some(password), ..State::new() })
    }

    /// Logs in with the password in this file. One newline at its end is not part of the password. A password that
    /// the engine refuses is read again when the file changes.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] if the file can't be read, is not a regular file, is empty, is longer than 1,024 bytes, or
    /// may be read by anybody but its owner (the group root is fine: systemd's credentials look like that).
    pub fn from_file(user: UserName, path: &Path) -> Result<Arc<Self>, IdentityError> {
        let (password, stamp) = password_file::read(path)?;
        let state = State { password: Some(password), stamp: Some(stamp), ..State::new() };
        Ok(Self::new(Some(user), Some(path.to_owned()), state))
    }

    /// Logs in by the uid of this process, without a password: over Unix sockets, as a user that was made with
    /// `hsm user create --peer-uid`.
    pub fn of_this_process(user: UserName) -> Arc<Self> {
        Self::new(Some(user), None, State { by_peer: true, ..State::new() })
    }

    /// Logs in with a token of an earlier login, and no other way.
    pub fn with_token(token: SessionToken) -> Arc<Self> {
        let token = Token { secret: token.0, serial: 0, refresh_at: None, expires_at: None };
        Self::new(None, None, State { token: Some(token), ..State::new() })
    }

    /// The session token of the last login, if one is held: for another process to use.
    pub fn token(&self) -> Option<SessionToken> {
        self.state().token.as_ref().map(|token| SessionToken(token.secret.duplicate()))
    }

    /// Whose password it is; nobody knows that of a token.
    pub fn user(&self) -> Option<&UserName> {
        self.user.as_ref()
    }

    /// How to log in now.
    pub(crate) fn credential(self: &Arc<Self>, now: Instant) -> Credential {
        let mut state = self.state();
        let resume =
            state.token.as_ref().filter(|token| token.expires_at.is_none_or(|at| now < at)).map(|token| {
                let resume = Resume { token: SessionToken(token.secret.duplicate()) };
                (
                    Credential::Resume { resume, serial: token.serial },
                    token.refresh_at.is_some_and(|at| at <= now),
                )
            });
        let fallback = match resume {
            Some((resume, false)) => return resume,
            Some((resume, true)) => Some(resume),
            None => None,
        };
        if state.permit_out {
            return fallback.unwrap_or(Credential::Wait);
        }
        if let Err(error) = self.read_again(&mut state) {
            return fallback.unwrap_or(Credential::Unavailable(error));
        }
        if let Some(refused) = &state.refused
            && (now < refused.until || !state.can_log_in())
        {
            return fallback.unwrap_or(Credential::Refused(refused.refusal.clone()));
        }
        match (&self.user, &state.password) {
            (Some(user), Some(password)) => {
                let login = Login { user: user.clone(), password: password.duplicate() };
                state.permit_out = true;
                let login = FirstLogin::Password(login);
                Credential::Login { login, permit: LoginPermit(Arc::clone(self)) }
            }
            (Some(user), None) if state.by_peer => {
                let login = FirstLogin::Peer(PeerLogin { user: user.clone() });
                state.permit_out = true;
                Credential::Login { login, permit: LoginPermit(Arc::clone(self)) }
            }
            _ => fallback.unwrap_or_else(|| {
                Credential::Refused(Refusal::new(
                    RefusalCode::SessionEnded,
                    "the session ended; log in again",
                ))
            }),
        }
    }

    /// An engine logged in a connection.
    pub(crate) fn granted(&self, grant: SessionGrant, now: Instant) -> LoggedIn {
        let mut state = self.state();
        state.refused = None;
        if let Some(token) = &state.token
            && token.refresh_at.is_some()
            && bool::from(token.secret.expose().ct_eq(grant.token.0.expose()))
        {
            return LoggedIn { serial: token.serial, refresh_at: token.refresh_at };
        }
        let lifetime = Duration::from_secs(u64::from(grant.lifetime_secs));
        let serial = state.next_serial;
        state.next_serial += 1;
        let refresh_at = now.checked_add(lifetime * 9 / 10);
        let expires_at = now.checked_add(lifetime);
        state.token = Some(Token { secret: grant.token.0, serial, refresh_at, expires_at });
        LoggedIn { serial, refresh_at }
    }

    /// An engine refused the token, or ended the session that came of it.
    pub(crate) fn token_refused(&self, serial: u64, refusal: &Refusal, now: Instant) {
        let mut state = self.state();
        if state.token.as_ref().is_some_and(|token| token.serial == serial) {
            state.token = None;
            if !state.can_log_in() {
                state.refused = Some(Refused { refusal: refusal.clone(), until: now, pause: PAUSE });
            }
        }
    }

    /// An engine refused the password.
    pub(crate) fn password_refused(&self, refusal: &Refusal, now: Instant) {
        let mut state = self.state();
        let pause = match (&state.refused, refusal.code) {
            (Some(before), RefusalCode::BadCredentials) => (before.pause * 2).min(LONGEST_PAUSE),
            _ => PAUSE,
        };
        state.refused = Some(Refused { refusal: refusal.clone(), until: now + pause, pause });
    }

    fn new(user: Option<UserName>, file: Option<PathBuf>, state: State) -> Arc<Self> {
        Arc::new(Self { user, file, state: Mutex::new(state) })
    }

    /// Reads the password file again if it changed; a file that is gone now leaves the password that was read.
    fn read_again(&self, state: &mut State) -> Result<(), IdentityError> {
        let Some(path) = &self.file else { return Ok(()) };
        match Stamp::of(path) {
            Ok(stamp) if Some(stamp) == state.stamp => Ok(()),
            Err(_) if state.password.is_some() => Ok(()),
            _ => {
                let (password, stamp) = password_file::read(path)?;
                state.password = Some(password);
                state.stamp = Some(stamp);
                state.refused = None;
                Ok(())
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic, so a poisoned state is still a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("user", &self.user).field("file", &self.file).finish_non_exhaustive()
    }
}

impl State {
    /// Whether a token that is lost can be had again.
    fn can_log_in(&self) -> bool {
        self.password.is_some() || self.by_peer
    }

    fn new() -> Self {
        Self {
            password: None,
            by_peer: false,
            stamp: None,
            token: None,
            next_serial: 1,
            permit_out: false,
            refused: None,
        }
    }
}

impl Drop for LoginPermit {
    fn drop(&mut self) {
        self.0.state().permit_out = false;
    }
}

/// Whether a refused login means that the password itself is no good.
pub(crate) fn blames_the_password(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::BadCredentials | RefusalCode::AccountLocked | RefusalCode::LoginThrottled)
}
