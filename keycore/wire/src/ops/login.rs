use serde::{Deserialize, Serialize};

use crate::ids::UserId;
use crate::names::UserName;
use crate::secret::Secret;
use crate::session::{Role, UnixMillis};

/// Longest session token, in bytes.
pub const MAX_SESSION_TOKEN: usize = 256;

/// Logs the connection in; a session that it had before is replaced.
///
/// Costs a password hash (tens of milliseconds of one core), so a client keeps the token for its next connections.
/// Refused with `BadCredentials` or `AccountLocked`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Login {
    /// Who.
    pub user: UserName,
    /// The password.
    pub password: Secret,
}

/// Logs the connection in with a token of an earlier login, on any replica, for microseconds.
///
/// Refused with `SessionEnded` if the token is expired, revoked or not this cluster's.
#[derive(Debug, Serialize, Deserialize)]
pub struct Resume {
    /// The token.
    pub token: SessionToken,
}

/// Logs the connection in as the user that its process belongs to: no password, no hash.
///
/// Only over a Unix socket, where the kernel tells the engine the process's user id (SO_PEERCRED). Refused with
/// `BadCredentials` unless the user was given that uid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerLogin {
    /// Who.
    pub user: UserName,
}

/// First step of a login with a second factor: checks the password and gives a challenge to be signed with the user's
/// registered key. Refused as `Login` is, and with `NotFound` if the user has no second factor.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoginChallenge {
    /// Who.
    pub user: UserName,
    /// The password.
    pub password: Secret,
}

/// A challenge: good for five minutes and one login, on every replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// What is to be signed, byte for byte.
    pub text: String,
}

/// Second step: logs the connection in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignedLogin {
    /// The challenge as it was given.
    pub challenge: String,
    /// Its signature, as for [`UserRegisterKey`](crate::UserRegisterKey).
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

/// Ends the session: the connection is logged out, and the token is worthless on every replica.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Logout;

/// A secret that stands for a login until it expires; at most [`MAX_SESSION_TOKEN`] bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionToken(pub Secret);

/// The connection is logged in.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionGrant {
    /// Who.
    pub user: UserId,
    /// What the user may do.
    pub role: Role,
    /// Logs in again, here or on another replica.
    pub token: SessionToken,
    /// When the session ends, by the engine's clock.
    pub expires_at: UnixMillis,
    /// How long that is from now, in seconds: for clients whose clock differs.
    pub lifetime_secs: u32,
}
