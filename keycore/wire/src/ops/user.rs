use serde::{Deserialize, Serialize};

use crate::ids::{IdempotencyKey, SpkiSha256, UserId};
use crate::names::UserName;
use crate::secret::Secret;
use crate::session::{Role, UnixMillis};

/// Shortest password, in bytes.
pub const MIN_PASSWORD: usize = 8;

/// Longest password, in bytes.
pub const MAX_PASSWORD: usize = 128;

/// Makes a user, who logs in with a password, by the uid of its process, or either. Needs the role admin. Repeats as with
/// `GenerateKey`.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserCreate {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// The name; refused with `AlreadyExists` if it is taken.
    pub name: UserName,
    /// What the user may do.
    pub role: Role,
    /// UTF-8, [`MIN_PASSWORD`] to [`MAX_PASSWORD`] bytes.
    pub password: Option<Secret>,
    /// The uid whose processes log in with [`PeerLogin`](crate::PeerLogin); refused with `AlreadyExists` if it is another
    /// user's.
    pub peer_uid: Option<u32>,
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

/// Sets or takes away the uid whose processes log in without a password; ends that user's sessions. Needs the role admin.
/// Refused with `NoCredential` if the user could not log in any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserSetPeerUid {
    /// Whose.
    pub name: UserName,
    /// The uid; none takes it away.
    pub peer_uid: Option<u32>,
}

/// Ends all sessions of a user on all replicas. Needs the role admin; the user may log in again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserLogout {
    /// Who.
    pub name: UserName,
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
    /// Whether the user has a password.
    pub password: bool,
    /// The uid whose processes log in as this user.
    pub peer_uid: Option<u32>,
    /// The public key of the second factor.
    pub second_factor: Option<SpkiSha256>,
    /// The public key that approvals are signed with.
    pub approval_key: Option<SpkiSha256>,
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
