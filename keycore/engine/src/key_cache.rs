//! Unsealed keys, ready to sign; bounded.

use core::num::NonZeroUsize;
use std::collections::HashMap;
use std::sync::Arc;

use keycore_wire::{KeyId, KeyInfo, SpkiSha256, UserId};
use lru::LruCache;

use crate::denial::Denial;
use crate::material::Material;
use crate::policy::Permission;
use crate::quorum::KeyApproval;
use crate::records::PublicKeyPart;

/// A key that was unsealed.
pub(crate) struct LoadedKey {
    pub(crate) info: KeyInfo,
    /// Empty for a secret key.
    pub(crate) spki: Vec<u8>,
    shares: Vec<UserId>,
    session: Option<[u8; 16]>,
    material: Material,
}

impl LoadedKey {
    pub(crate) fn new(public: PublicKeyPart, material: Material) -> Self {
        let PublicKeyPart { info, spki, shares, session, .. } = public;
        Self { info, spki, shares, session, material }
    }

    /// Whether a signature takes so long that nothing should wait behind it.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(&self.material, Material::Private(private) if private.is_slow())
    }

    /// Whether a signature takes a third of a millisecond at most, though it is slow.
    pub(crate) fn takes_a_moment(&self) -> bool {
        matches!(&self.material, Material::Private(private) if private.takes_a_moment())
    }

    /// Whether it is a key pair.
    pub(crate) fn is_pair(&self) -> bool {
        matches!(&self.material, Material::Private(_))
    }

    /// What it holds, for an operation of a user who may use it, with the approvals that it takes.
    pub(crate) fn material(
        &self,
        permission: &Permission,
        _approval: &KeyApproval,
    ) -> Result<&Material, Denial> {
        if !self.is_usable_by(permission.actor()?) {
            return Err(Denial::internal("a key was looked up for a user who may not use it"));
        }
        match self.session {
            Some(session) if permission.session() != Some(session) => {
                Err(Denial::no_key("the key is another session's"))
            }
            _ => Ok(&self.material),
        }
    }

    fn is_usable_by(&self, user: UserId) -> bool {
        user == self.info.owner || self.shares.contains(&user)
    }

    /// The names that it is found by besides its id.
    fn names(&self) -> impl Iterator<Item = (UserId, SpkiSha256)> {
        let users = core::iter::once(self.info.owner).chain(self.shares.iter().copied());
        self.info.spki_sha256.into_iter().flat_map(move |spki| users.clone().map(move |user| (user, spki)))
    }
}

/// The least recently used key makes room. Found by id, or by user and public key, the way handshakes ask.
pub(crate) struct KeyCache {
    keys: LruCache<KeyId, Arc<LoadedKey>>,
    names: HashMap<(UserId, SpkiSha256), KeyId>,
    epoch: u64,
}

impl KeyCache {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { keys: LruCache::new(capacity), names: HashMap::new(), epoch: 0 }
    }

    pub(crate) fn by_spki(&mut self, user: UserId, spki: SpkiSha256) -> Option<Arc<LoadedKey>> {
        let id = self.names.get(&(user, spki))?;
        self.keys.get(id).map(Arc::clone)
    }

    pub(crate) fn by_id(&mut self, user: UserId, id: KeyId) -> Option<Arc<LoadedKey>> {
        self.keys.get(&id).filter(|key| key.is_usable_by(user)).map(Arc::clone)
    }

    /// Counts evictions. Whoever loads a key asks before it reads the store.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Keeps a key that was read from the store after `epoch` was asked for. Refused if something was evicted since:
    /// it may have been this key, deleted between the reading and now.
    pub(crate) fn insert(&mut self, epoch: u64, key: Arc<LoadedKey>) -> bool {
        if epoch != self.epoch {
            return false;
        }
        let id = key.info.id;
        let names: Vec<_> = key.names().collect();
        if let Some((_, pushed_out)) = self.keys.push(id, key) {
            self.forget_names(&pushed_out);
        }
        self.names.extend(names.into_iter().map(|name| (name, id)));
        true
    }

    /// Forgets a key that changed or was deleted.
    pub(crate) fn evict(&mut self, id: KeyId) {
        self.epoch += 1;
        if let Some(key) = self.keys.pop(&id) {
            self.forget_names(&key);
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.epoch += 1;
        self.keys.clear();
        self.names.clear();
    }

    fn forget_names(&mut self, key: &LoadedKey) {
        for name in key.names() {
            if self.names.get(&name) == Some(&key.info.id) {
                self.names.remove(&name);
            }
        }
    }
}
