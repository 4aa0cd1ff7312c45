//! The record of the cluster key: the keyring, wrapped by what unseals the engine.
//!
//! A wrapping key comes from what the operators hold, by the record's method: HKDF of a key, Argon2id and HKDF of a passphrase, or
//! HKDF of what M of N custodians' shares make. An engine keeps the wrapping key while it runs: with it, it follows changes of
//! the ring.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use keycore_backup::{Share, SharePurpose};
use keycore_secmem::SecretBytes;
use keycore_store::{Record, Revision, Store};
use keycore_wire::{ClusterId, Secret, UnsealMethod};
use serde::{Deserialize, Serialize};

use crate::error::FollowError;
use crate::handover;
use crate::keyring::{DeriveError, Keyring, Wrapping, new_key};
use crate::options::PasswordCost;
use crate::password;
use crate::records::{CLUSTER, ONLY};
use crate::seal::{Place, SealingKeys, associated_data, decrypt, derive_key, encrypt};
use crate::unseal_secret::UnsealSecret;

const FORMAT: u8 = 2;
/// Wraps one cluster key, of the first generation.
const ONE_KEY: u8 = 1;

/// Dearest Argon2id that a record may ask for: it is not authenticated before it is paid.
const MAX_MEMORY_KIB: u32 = 4 * 1024 * 1024;
const MAX_PASSES: u32 = 64;

/// The cluster can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The secret does not fit.
    #[error(
        "the unseal secret does not open this cluster; use the one that it was initialized with, or changed to"
    )]
    WrongSecret,
    /// The record of the cluster key can't be read.
    #[error("the store's record of the cluster key is damaged, or a newer version wrote it")]
    Unreadable,
    /// The store belongs to another cluster than when the engine started.
    #[error("the store now holds another cluster; start the engine anew")]
    AnotherCluster,
    /// The record is wrapped with another key than this engine knows.
    #[error("what unseals the cluster was changed while this engine did not follow; start it anew")]
    MethodChanged,
    /// The cryptographic library or locked memory failed.
    #[error("the cluster's keys can't be derived: {0}")]
    Derive(String),
}

impl From<DeriveError> for UnsealError {
    fn from(error: DeriveError) -> Self {
        Self::Derive(error.to_string())
    }
}

impl From<Unspecified> for UnsealError {
    fn from(error: Unspecified) -> Self {
        Self::Derive(error.to_string())
    }
}

/// The record of the cluster key.
#[derive(Serialize, Deserialize)]
pub(crate) struct WrappedRing {
    format: u8,
    cluster: ClusterId,
    method: Method,
    /// Nonce, ciphertext and tag of AES-256-GCM.
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    #[serde(skip)]
    version: Revision,
}

/// How the wrapping key comes from what the operators hold.
#[derive(Clone, Serialize, Deserialize)]
enum Method {
    /// HKDF-SHA256 of a secret with the entropy of a key.
    HighEntropySecret { salt: [u8; 32] },
    /// The same of what Argon2id makes of a passphrase.
    Passphrase { salt: [u8; 16], memory_kib: u32, passes: u32 },
    /// The same of 32 bytes that `needed` of `of` shares of one split make.
    Custodians { salt: [u8; 32], split: [u8; 8], needed: u8, of: u8 },
}

impl Method {
    fn wrapping_key(&self, secret: &[u8]) -> Result<Arc<SecretBytes>, UnsealError> {
        const PURPOSE: &[u8] = b"keycore cluster key wrap v1";
        let mut key = match self {
            Self::HighEntropySecret { salt } | Self::Custodians { salt, .. } => {
                derive_key(salt, secret, PURPOSE)?
            }
            &Self::Passphrase { ref salt, memory_kib, passes } => {
                if memory_kib > MAX_MEMORY_KIB || passes > MAX_PASSES {
                    return Err(UnsealError::Unreadable);
                }
                let stretched = password::argon2id(secret, memory_kib, passes, salt)
                    .map_err(|denial| UnsealError::Derive(denial.reason.into_owned()))?;
                derive_key(salt, &*stretched, PURPOSE)?
            }
        };
        Ok(Arc::new(SecretBytes::copy_from(&mut *key).map_err(DeriveError::from)?))
    }

    fn split(&self) -> Option<[u8; 8]> {
        match *self {
            Self::Custodians { split, .. } => Some(split),
            Self::HighEntropySecret { .. } | Self::Passphrase { .. } => None,
        }
    }

    fn told(&self) -> UnsealMethod {
        match *self {
            Self::HighEntropySecret { .. } => UnsealMethod::Secret,
            Self::Passphrase { .. } => UnsealMethod::Passphrase,
            Self::Custodians { needed, of, .. } => UnsealMethod::Custodians { needed, of },
        }
    }
}

/// What the cluster is to be unsealed with from now on; made before the store is locked, since Argon2id takes its time.
pub(crate) struct NewMethod {
    method: Method,
    wrapping: Arc<SecretBytes>,
    /// The custodians' shares, told once.
    pub(crate) shares: Vec<Secret>,
}

impl NewMethod {
    /// Which it is.
    pub(crate) fn method(&self) -> UnsealMethod {
        self.method.told()
    }

    /// By a secret with the entropy of a key, which [`UnsealSecret::is_a_key`] tells.
    pub(crate) fn secret(secret: &UnsealSecret) -> Result<Self, UnsealError> {
        let method = Method::HighEntropySecret { salt: *new_key()? };
        Ok(Self { wrapping: method.wrapping_key(secret.expose())?, method, shares: Vec::new() })
    }

    /// By a passphrase, stretched at this cost.
    pub(crate) fn passphrase(secret: &UnsealSecret, cost: PasswordCost) -> Result<Self, UnsealError> {
        let mut salt = [0; 16];
        rand::fill(&mut salt)?;
        let method = Method::Passphrase { salt, memory_kib: cost.memory_kib(), passes: cost.passes() };
        Ok(Self { wrapping: method.wrapping_key(secret.expose())?, method, shares: Vec::new() })
    }

    /// By new shares of custodians; the numbers fit ([`Share::fits`]).
    pub(crate) fn custodians(needed: u8, of: u8) -> Result<Self, UnsealError> {
        let (secret, mut split) = (new_key()?, [0; 8]);
        rand::fill(&mut split)?;
        let method = Method::Custodians { salt: *new_key()?, split, needed, of };
        let shares = Share::split(SharePurpose::Unseal, split, &secret, needed, of)?;
        let shares = shares.into_iter().map(|mut text| Secret::new(core::mem::take(&mut *text).into_bytes()));
        Ok(Self { wrapping: method.wrapping_key(&*secret)?, method, shares: shares.collect() })
    }

    /// What is to be kept of it until somebody shows its shares.
    pub(crate) fn prepared(&self) -> Result<PreparedMethod, UnsealError> {
        Ok(PreparedMethod { method: self.method.clone(), check: check_of(&self.wrapping)? })
    }

    /// Whether there is a share of this number.
    pub(crate) fn has_share(&self, number: u8) -> bool {
        match self.method {
            Method::Custodians { of, .. } => (1..=of).contains(&number),
            Method::HighEntropySecret { .. } | Method::Passphrase { .. } => false,
        }
    }

    /// By what suits the secret: stretched, unless it is a key already.
    pub(crate) fn suitable(secret: &UnsealSecret, cost: PasswordCost) -> Result<Self, UnsealError> {
        if secret.is_a_key() { Self::secret(secret) } else { Self::passphrase(secret, cost) }
    }

    /// The content of the cluster's record, to be committed as `version`.
    pub(crate) fn wrap(&self, ring: &Keyring, version: Revision) -> Result<Vec<u8>, DeriveError> {
        wrap(self.method.clone(), &self.wrapping, ring, version)
    }

    /// What that record is wrapped with.
    pub(crate) fn wrapping(&self, version: Revision) -> Wrapping {
        Wrapping { key: Arc::clone(&self.wrapping), version }
    }
}

/// A method whose secret nobody here has: people do.
#[derive(Serialize, Deserialize)]
pub(crate) struct PreparedMethod {
    method: Method,
    /// Tells the secret from others; 256 random bits are not guessed by it.
    check: [u8; 32],
}

impl PreparedMethod {
    /// Which split of the secret the shares are of.
    pub(crate) fn split(&self) -> Option<[u8; 8]> {
        self.method.split()
    }

    /// With its secret; none if it is another one.
    pub(crate) fn complete(&self, secret: &[u8; 32]) -> Result<Option<NewMethod>, UnsealError> {
        let wrapping = self.method.wrapping_key(secret)?;
        if verify_slices_are_equal(&check_of(&wrapping)?, &self.check).is_err() {
            return Ok(None);
        }
        Ok(Some(NewMethod { method: self.method.clone(), wrapping, shares: Vec::new() }))
    }
}

fn check_of(wrapping: &SecretBytes) -> Result<[u8; 32], UnsealError> {
    Ok(*derive_key(&[], wrapping.expose(), b"keycore custodians check v1")?)
}

fn wrap(
    method: Method,
    wrapping: &SecretBytes,
    ring: &Keyring,
    version: Revision,
) -> Result<Vec<u8>, DeriveError> {
    let cluster = ring.cluster();
    let mut wrapped = WrappedRing { format: FORMAT, cluster, method, key: Vec::new(), version };
    let authenticated = wrapped.authenticated()?;
    encrypt(key_of(wrapping)?, &authenticated, &ring.write()?, &mut wrapped.key)?;
    postcard::to_allocvec(&wrapped).map_err(|_| DeriveError::Form)
}

/// A new cluster's ring.
pub(crate) fn new_ring() -> Result<Keyring, DeriveError> {
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    Keyring::first(ClusterId(id), &*new_key()?)
}

impl WrappedRing {
    /// Reads the cluster's record; nothing in it is authenticated yet.
    pub(crate) fn read(record: &Record) -> Result<Self, UnsealError> {
        let unreadable = |_| UnsealError::Unreadable;
        let mut wrapped: Self = postcard::from_bytes(&record.sealed).map_err(unreadable)?;
        wrapped.version = record.version;
        if matches!(wrapped.format, ONE_KEY | FORMAT) { Ok(wrapped) } else { Err(UnsealError::Unreadable) }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(crate) fn method(&self) -> UnsealMethod {
        self.method.told()
    }

    /// Which split of the secret the shares are of, if it is shares that unseal.
    pub(crate) fn split(&self) -> Option<[u8; 8]> {
        self.method.split()
    }

    /// Whether what the operators hold opens it.
    pub(crate) fn is_opened_by(&self, secret: &[u8]) -> Result<bool, UnsealError> {
        match self.open_with(&self.method.wrapping_key(secret)?) {
            Ok(_) => Ok(true),
            Err(UnsealError::WrongSecret) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The content of the record with another ring, to be committed as `version`, under the same method and wrapping key.
    pub(crate) fn rewrap(
        &self,
        wrapping: &Wrapping,
        ring: &Keyring,
        version: Revision,
    ) -> Result<Vec<u8>, DeriveError> {
        wrap(self.method.clone(), &wrapping.key, ring, version)
    }

    /// Opens it with what the operators hold.
    pub(crate) fn open(&self, secret: &[u8]) -> Result<SealingKeys, UnsealError> {
        self.open_with(&self.method.wrapping_key(secret)?).map(SealingKeys::new)
    }

    fn open_with(&self, wrapping: &Arc<SecretBytes>) -> Result<Keyring, UnsealError> {
        let authenticated = self.authenticated()?;
        let content =
            decrypt(key_of(wrapping)?, &authenticated, &self.key).map_err(|_| UnsealError::WrongSecret)?;
        let ring = match self.format {
            ONE_KEY => Keyring::first(self.cluster, &content)?,
            _ => Keyring::read(self.cluster, &content)?,
        };
        Ok(ring.wrapped(Wrapping { key: Arc::clone(wrapping), version: self.version }))
    }

    fn authenticated(&self) -> Result<Vec<u8>, DeriveError> {
        let place = Place { kind: CLUSTER, id: ONLY, version: self.version };
        let mut authenticated = associated_data(self.format, self.cluster, place);
        if self.format != ONE_KEY {
            authenticated =
                postcard::to_extend(&self.method, authenticated).map_err(|_| DeriveError::Form)?;
        }
        Ok(authenticated)
    }
}

/// Brings the ring to what the cluster's record has now, if it was written since.
pub(crate) fn catch_up(
    store: &mut dyn Store,
    keys: &SealingKeys,
    record: &Record,
) -> Result<(), FollowError> {
    let known = keys.ring();
    let version = known.wrapping.as_ref().map(|wrapping| wrapping.version);
    if version == Some(record.version) {
        return Ok(());
    }
    // An older record would bring back a generation that was dropped, and what it sealed.
    let put_back = || FollowError::ClusterKeyPutBack { known: known.newest().number };
    if version.is_some_and(|version| record.version < version) {
        return Err(put_back());
    }
    let ring = ring_of(store, keys, record)?;
    if ring.newest().number < known.newest().number || ring.oldest().number < known.oldest().number {
        return Err(put_back());
    }
    keys.replace(ring);
    Ok(())
}

/// The ring of a record of this cluster, opened with what the engine knows: the wrapping key, or the one that it was handed.
pub(crate) fn ring_of(
    store: &mut dyn Store,
    keys: &SealingKeys,
    record: &Record,
) -> Result<Keyring, FollowError> {
    let before = keys.ring();
    let wrapping = before.wrapping.as_ref().ok_or(UnsealError::MethodChanged)?;
    let wrapped = WrappedRing::read(record)?;
    if wrapped.cluster != keys.cluster() {
        return Err(UnsealError::AnotherCluster.into());
    }
    let ring = match wrapped.open_with(&wrapping.key) {
        Err(UnsealError::WrongSecret) => {
            let handed = handover::take(store, keys, wrapping)?.ok_or(UnsealError::MethodChanged)?;
            wrapped.open_with(&handed).map_err(|error| match error {
                UnsealError::WrongSecret => UnsealError::MethodChanged,
                other => other,
            })?
        }
        opened => opened?,
    };
    Ok(ring.in_epoch(before.epoch()).map_err(UnsealError::from)?)
}

pub(crate) fn key_of(wrapping: &SecretBytes) -> Result<&[u8; 32], DeriveError> {
    wrapping.expose().try_into().map_err(|_| DeriveError::Form)
}

#[cfg(test)]
mod tests;
