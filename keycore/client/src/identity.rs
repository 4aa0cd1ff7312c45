use std::path::{Path, PathBuf};
use std::sync::Arc;

use keycore_wire::{Secret, SessionToken, UserName};

/// Who logs in: a user's password, or a session token of an earlier login.
pub struct Identity {
    _user: Option<UserName>,
}

/// The password can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file can't be read.
    #[error("can't read the password file {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Identity {
    /// Logs in with this password.
    pub fn with_password(user: UserName, _password: Secret) -> Arc<Self> {
        Arc::new(Self { _user: Some(user) })
    }

    /// Logs in with the password in this file.
    pub fn from_file(user: UserName, _path: &Path) -> Result<Arc<Self>, IdentityError> {
        Ok(Arc::new(Self { _user: Some(user) }))
    }

    /// Logs in with a token of an earlier login, and no other way.
    pub fn with_token(_token: SessionToken) -> Arc<Self> {
        Arc::new(Self { _user: None })
    }

    /// The session token of the last login, if one is held: to be kept for another process.
    pub fn token(&self) -> Option<SessionToken> {
        None
    }
}
