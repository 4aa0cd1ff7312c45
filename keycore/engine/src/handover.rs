//! How replicas that run learn what the cluster's record is wrapped with since its method was changed.
//!
//! The new wrapping key lies in the store for some seconds, encrypted under the old one, in a record that is sealed as all are:
//! only an engine that was unsealed by the old method *and* has the cluster key takes it. Whoever has both reads every
//! record anyway, until the cluster key is rotated, which waits until this record is gone.

use core::time::Duration;
use std::sync::Arc;

use keycore_secmem::SecretBytes;
use keycore_store::{Kind, Store};
use keycore_wire::{ClusterId, UnixMillis};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cluster::{UnsealError, key_of};
use crate::denial::Denial;
use crate::engine::Engine;
use crate::error::FollowError;
use crate::keyring::{DeriveError, Wrapping};
use crate::ledger::load;
use crate::options::Now;
use crate::records::{Content, ONLY};
use crate::seal::{SealingKeys, decrypt, encrypt};

/// How long it is there: replicas follow within 100 ms.
const LASTS: Duration = Duration::from_secs(10);

/// The wrapping key of the cluster's record, for those who have the one before.
#[derive(Serialize, Deserialize)]
pub(crate) struct Handover {
    made_at: UnixMillis,
    /// Nonce, ciphertext and tag of AES-256-GCM under the old wrapping key; empty if the method is the same.
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
}

impl Content for Handover {
    const KIND: Kind = Kind(48);
}

impl Handover {
    pub(crate) fn new(
        cluster: ClusterId,
        old: &Wrapping,
        new: &Wrapping,
        now: Now,
    ) -> Result<Self, DeriveError> {
        let mut key = Vec::new();
        encrypt(key_of(&old.key)?, &authenticated(cluster), new.key.expose(), &mut key)?;
        Ok(Self { made_at: now.wall, key })
    }

    /// A new generation is to reach all replicas before the method changes: who does not know it can't open what is sealed with
    /// it, and that is what hands the new wrapping key over.
    pub(crate) fn of_a_generation(now: Now) -> Self {
        Self { made_at: now.wall, key: Vec::new() }
    }

    /// Whether it has a wrapping key to hand over.
    pub(crate) fn changes_the_method(&self) -> bool {
        !self.key.is_empty()
    }
}

/// The new wrapping key, if one is handed over to whoever has this one.
pub(crate) fn take(
    store: &mut dyn Store,
    keys: &SealingKeys,
    old: &Wrapping,
) -> Result<Option<Arc<SecretBytes>>, FollowError> {
    let Some(found) = load::<Handover>(store, keys, ONLY)? else { return Ok(None) };
    let old = key_of(&old.key).map_err(UnsealError::from)?;
    // Under another key: two changes were made while this engine did not follow.
    let Ok(key) = decrypt(old, &authenticated(keys.cluster()), &found.content.key) else { return Ok(None) };
    let key = SecretBytes::copy_from(&mut Zeroizing::new(key.to_vec()))
        .map_err(|error| UnsealError::Derive(error.to_string()))?;
    Ok(Some(Arc::new(key)))
}

fn authenticated(cluster: ClusterId) -> Vec<u8> {
    [&b"keycore handover"[..], &cluster.0].concat()
}

impl Engine {
    /// Takes the record away when its time is over.
    pub(crate) fn end_handover(&self, now: Now) -> Result<(), Denial> {
        self.transact(|records| {
            if let Some(found) = records.load::<Handover>(ONLY)?
                && now.wall >= found.content.made_at.plus(LASTS)
            {
                records.delete::<Handover>(ONLY, found.version);
            }
            Ok(())
        })
    }
}
