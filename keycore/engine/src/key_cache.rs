//! Unsealed keys, ready to sign; bounded.

use core::num::NonZeroUsize;
use std::collections::HashMap;
use std::sync::Arc;

use keycore_wire::{KeyId, KeyInfo, Signature, SpkiSha256, UserId};
use lru::LruCache;

use crate::denial::Denial;
use crate::policy::Permission;
use crate::private_key::PrivateKey;
use crate::signable::Signable;

/// A key that was unsealed.
pub(crate) struct LoadedKey {
    pub(crate) info: KeyInfo,
    pub(crate) spki: Vec<u8>,
    private: PrivateKey,
}

impl LoadedKey {
    pub(crate) fn new(info: KeyInfo, spki: Vec<u8>, private: PrivateKey) -> Self {
        Self { info, spki, private }
    }

    /// Whether a signature takes so long that nothing should wait behind it.
    pub(crate) fn is_slow(&self) -> bool {
        self.private.is_slow()
    }

    /// Signs what was found signable, for its owner.
    pub(crate) fn sign(&self, permission: &Permission, signable: &Signable<'_>) -> Result<Signature, Denial> {
        if permission.actor()? != self.info.owner {
            return Err(Denial::internal("a key was looked up for another user than its owner"));
        }
        Ok(Signature { bytes: self.private.sign(signable.scheme(), signable.content())? })
    }
}

/// The least recently used key makes room. Found by owner and public key, the way handshakes ask, or by id.
pub(crate) struct KeyCache {
    keys: LruCache<(UserId, SpkiSha256), Arc<LoadedKey>>,
    names: HashMap<KeyId, (UserId, SpkiSha256)>,
    epoch: u64,
}

impl KeyCache {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { keys: LruCache::new(capacity), names: HashMap::new(), epoch: 0 }
    }

    pub(crate) fn by_spki(&mut self, owner: UserId, spki: SpkiSha256) -> Option<Arc<LoadedKey>> {
        self.keys.get(&(owner, spki)).map(Arc::clone)
    }

    pub(crate) fn by_id(&mut self, owner: UserId, id: KeyId) -> Option<Arc<LoadedKey>> {
        let name = self.names.get(&id).filter(|(of, _)| *of == owner)?;
        self.keys.get(name).map(Arc::clone)
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
        let (id, name) = (key.info.id, (key.info.owner, key.info.spki_sha256));
        if let Some((_, pushed_out)) = self.keys.push(name, key) {
            self.names.remove(&pushed_out.info.id);
        }
        self.names.insert(id, name);
        true
    }

    /// Forgets a key that changed or was deleted.
    pub(crate) fn evict(&mut self, id: KeyId) {
        self.epoch += 1;
        if let Some(name) = self.names.remove(&id) {
            self.keys.pop(&name);
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.epoch += 1;
        self.keys.clear();
        self.names.clear();
    }
}
