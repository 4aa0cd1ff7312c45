//! What the data plane knows of users and sessions without asking the store.

use std::collections::HashMap;
use std::sync::Arc;

use keycore_store::{RecordId, Revision};
use keycore_wire::{Role, SpkiSha256, UnixMillis, UserId, UserInfo, UserName};

use crate::login::MAX_ATTEMPTS;
use crate::private_key::spki_sha256;
use crate::records::{User, VerifyingKey};

/// All users and logged-out sessions at some revision. Changed only while the store is locked, so what was read first
/// never overwrites what was read later.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) users: HashMap<UserId, KnownUser>,
    pub(crate) revoked: HashMap<[u8; 16], Revoked>,
    /// The latest revision whose changes are all in here.
    pub(crate) revision: Revision,
}

/// A user, without what only the control plane needs.
pub(crate) struct KnownUser {
    pub(crate) name: Arc<UserName>,
    pub(crate) role: Role,
    pub(crate) credential: u64,
    pub(crate) locked: bool,
    password: bool,
    peer_uid: Option<u32>,
    second_factor: Option<SpkiSha256>,
    approval_key: Option<SpkiSha256>,
    pub(crate) created_at: UnixMillis,
}

/// A logged-out session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revoked {
    pub(crate) expires_at: UnixMillis,
    pub(crate) version: Revision,
}

impl KnownUser {
    pub(crate) fn info(&self, id: UserId) -> UserInfo {
        UserInfo {
            id,
            name: (*self.name).clone(),
            role: self.role,
            locked: self.locked,
            password: self.password,
            peer_uid: self.peer_uid,
            second_factor: self.second_factor,
            approval_key: self.approval_key,
            created_at: self.created_at,
        }
    }
}

impl From<&User> for KnownUser {
    fn from(user: &User) -> Self {
        let hash = |key: &Option<VerifyingKey>| key.as_ref().map(|key| spki_sha256(&key.0));
        Self {
            name: Arc::new(user.name.clone()),
            role: user.role,
            credential: user.credential,
            locked: user.attempts >= MAX_ATTEMPTS,
            password: user.password.is_some(),
            peer_uid: user.peer_uid,
            second_factor: hash(&user.second_factor),
            approval_key: hash(&user.approval_key),
            created_at: user.created_at,
        }
    }
}

/// The record of a user.
pub(crate) fn user_record(user: UserId) -> RecordId {
    RecordId(user.0)
}
