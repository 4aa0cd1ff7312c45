//! What the data plane knows of users and sessions without asking the store.

use std::collections::HashMap;
use std::sync::Arc;

use keycore_store::{RecordId, Revision};
use keycore_wire::{Role, SpkiSha256, UnixMillis, UserId, UserInfo, UserName};

use crate::ledger::Opened;
use crate::login::MAX_ATTEMPTS;
use crate::private_key::spki_sha256;
use crate::records::{Revocation, User, VerifyingKey};

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

/// What was read to bring a snapshot up to date. Nobody sees it before all of it is there: what does not open at first may, a
/// moment later, with a cluster key that came meanwhile.
#[derive(Default)]
pub(crate) struct Gathered {
    users: Vec<(UserId, Option<KnownUser>)>,
    unopened: Vec<UserId>,
    revoked: Vec<([u8; 16], Option<Revoked>)>,
}

impl Gathered {
    /// A user, or that there is none any more.
    pub(crate) fn user(&mut self, id: RecordId, user: Option<&User>) {
        self.users.push((UserId(id.0), user.map(KnownUser::from)));
    }

    /// A user whose record does not open.
    pub(crate) fn unopened(&mut self, id: RecordId) {
        self.unopened.push(UserId(id.0));
    }

    /// A logged-out session, or that it is forgotten.
    pub(crate) fn revocation(&mut self, id: RecordId, revocation: Option<&Opened<Revocation>>) {
        let revoked = revocation.map(|Opened { version, content, .. }| Revoked {
            expires_at: content.expires_at,
            version: *version,
        });
        self.revoked.push((id.0, revoked));
    }

    /// Brings it into the snapshot. `shut_out`: whoever's record does not open is not known any more.
    pub(crate) fn publish(self, snapshot: &mut Snapshot, shut_out: bool) {
        for (id, user) in self.users {
            match user {
                Some(user) => snapshot.users.insert(id, user),
                None => snapshot.users.remove(&id),
            };
        }
        for id in self.unopened.into_iter().filter(|_| shut_out) {
            snapshot.users.remove(&id);
        }
        for (id, revoked) in self.revoked {
            match revoked {
                Some(revoked) => snapshot.revoked.insert(id, revoked),
                None => snapshot.revoked.remove(&id),
            };
        }
    }
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
