use serde::{Deserialize, Serialize};

use crate::ids::{IdempotencyKey, UserId};
use crate::names::UserName;
use crate::secret::Secret;
use crate::session::{Role, UnixMillis};

/// Shortest password, in bytes.
pub const MIN_PASSWORD: usize = 8;

/// Longest password, in bytes.
pub const MAX_PASSWORD: usize = 128;

/// Makes a user. Needs the role admin. Repeats as with `GenerateKey`.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserCreate {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// The name; refused with `AlreadyExists` if it is taken.
    pub name: UserName,
    /// What the user may do.
    pub role: Role,
    /// UTF-8, [`MIN_PASSWORD`] to [`MAX_PASSWORD`] bytes.
    pub password: Secret,
}

/// Lists users in the order of their ids, a page at a time. Needs a login.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct UserList {
    /// The last id of the page before, or none for the first page.
    pub after: Option<UserId>,
    /// Most entries wanted; [`MAX_PAGE`](crate::MAX_PAGE) at most are given.
    pub limit: u16,
}

/// Deletes a user. Needs the role admin. Refused with `LastAdmin`, `OwnsKeys` or `NotFound`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserDelete {
    /// Who.
    pub name: UserName,
}

/// Sets a password: one's own with the current one, or as an admin anybody's. Ends that user's other sessions and
/// unlocks the account.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserChangePassword {
    /// Whose; none for one's own.
    pub name: Option<UserName>,
    /// The current password; needed for one's own.
    pub current: Option<Secret>,
    /// The new one, [`MIN_PASSWORD`] to [`MAX_PASSWORD`] bytes.
    pub new: Secret,
}

/// What everybody may know of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The user.
    pub id: UserId,
    /// The name.
    pub name: UserName,
    /// The role.
    pub role: Role,
    /// Whether too many wrong passwords locked the account.
    pub locked: bool,
    /// When the user was made.
    pub created_at: UnixMillis,
}

/// One page of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPage {
    /// The users.
    pub users: Vec<UserInfo>,
    /// Whether there are more behind the last one.
    pub more: bool,
}
