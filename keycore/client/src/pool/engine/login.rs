//! The login of one connection. The identity decides what to log in with, and when it is worth it.

use std::sync::Arc;
use std::time::Duration;

use keycore_wire::{Blame, Refusal, SessionGrant};
use tokio::time::Instant;
use tracing::warn;

use super::{Engine, PoolOptions};
use crate::fault::Fault;
use crate::identity::{Credential, Identity, LoggedIn, LoginPermit, blames_the_password};

/// How long to wait for the login of another connection of this process.
const LOGIN_POLL: Duration = Duration::from_millis(5);

/// How often a refused login is looked at again; the identity says when it is tried.
const REFUSED_POLL: Duration = Duration::from_secs(1);

/// Shortest time between two logins of one connection: an engine that logs in and then ends the session must not
/// cost a password hash for each call.
const LOGIN_INTERVAL: Duration = Duration::from_millis(250);

/// Shortest time until a login is refreshed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// Where the login of a connection is.
pub(super) enum Login {
    /// Done, or not needed.
    Idle { refresh_at: Option<Instant> },
    /// To be asked for.
    Due { at: Instant },
    /// Asked for; `permit` if with the password.
    Asked { until: Instant, permit: Option<LoginPermit> },
}

impl Engine {
    pub(in crate::pool) fn logged_in(&mut self, options: &PoolOptions, grant: SessionGrant, now: Instant) {
        let Some(identity) = &options.identity else { return };
        let LoggedIn { serial, refresh_at } = identity.granted(grant, now.into_std());
        self.token_serial = Some(serial);
        self.logged_in_at = Some(now);
        self.login_refusal = None;
        // If it is this token's time already, and no other is to be had, don't ask at once again.
        let refresh_at = refresh_at.map(|at| Instant::from_std(at).max(now + REFRESH_INTERVAL));
        self.login = Login::Idle { refresh_at };
        self.become_ready(now);
    }

    pub(in crate::pool) fn login_refused(&mut self, options: &PoolOptions, refusal: Refusal, now: Instant) {
        let Some(identity) = &options.identity else { return };
        let asked = core::mem::replace(&mut self.login, Login::Due { at: now + REFUSED_POLL });
        let with_password = matches!(asked, Login::Asked { permit: Some(_), .. });
        if with_password && blames_the_password(refusal.code) {
            warn!(engine = %self.endpoint, %refusal, "login refused; not tried again for a while");
            identity.password_refused(&refusal, now.into_std());
        } else if !with_password && refusal.code.blame() != Blame::Engine {
            if let Some(serial) = self.token_serial.take() {
                identity.token_refused(serial, &refusal, now.into_std());
            }
            drop(asked);
            self.log_in(identity, options, now);
            return;
        } else {
            warn!(engine = %self.endpoint, %refusal, "login refused; tried again in a second");
        }
        if !self.ready {
            self.last_error = Some(Fault::Login(refusal.clone()).to_string());
            self.login_refusal = Some(refusal);
        }
    }

    /// The engine doesn't know the session of this connection any more.
    pub(in crate::pool) fn session_ended(&mut self, options: &PoolOptions, refusal: &Refusal, now: Instant) {
        let Some(identity) = options.identity.as_ref().filter(|_| self.ready) else { return };
        self.ready = false;
        if let Some(serial) = self.token_serial.take() {
            identity.token_refused(serial, refusal, now.into_std());
        }
        let earliest = self.logged_in_at.map_or(now, |at| at + LOGIN_INTERVAL);
        if matches!(self.login, Login::Asked { .. }) {
        } else if earliest <= now {
            self.log_in(identity, options, now);
        } else {
            self.login = Login::Due { at: earliest };
        }
    }

    /// The engine does nothing more until it is started anew, which closes this connection. Until then it is asked once in a
    /// while whether it lets anybody log in, and gets nothing else.
    pub(in crate::pool) fn stopped(&mut self, refusal: &Refusal, now: Instant) {
        warn!(engine = %self.endpoint, %refusal, "engine stopped");
        self.ready = false;
        self.last_error = Some(Fault::Login(refusal.clone()).to_string());
        self.login = Login::Due { at: now + REFUSED_POLL };
    }

    pub(super) fn log_in(&mut self, identity: &Arc<Identity>, options: &PoolOptions, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let (sent, permit) = match identity.credential(now.into_std()) {
            Credential::Resume { resume, serial } => {
                self.token_serial = Some(serial);
                (session.resume(&resume), None)
            }
            Credential::Login { login, permit } => (session.login(&login), Some(permit)),
            Credential::Wait => {
                self.login = Login::Due { at: now + LOGIN_POLL };
                return;
            }
            Credential::Refused(refusal) => {
                self.login = Login::Due { at: now + REFUSED_POLL };
                self.last_error = Some(Fault::Login(refusal.clone()).to_string());
                self.login_refusal = Some(refusal);
                return;
            }
            Credential::Unavailable(error) => {
                self.login = Login::Due { at: now + REFUSED_POLL };
                self.last_error = Some(Fault::Identity(error).to_string());
                return;
            }
        };
        match sent {
            Ok(()) => {
                self.login = Login::Asked { until: now + options.login_timeout, permit };
                self.wake_writer();
            }
            Err(_) => self.condemn(Fault::NoRoom),
        }
    }
}
