//! The cluster key, and what it is wrapped by.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use keycore_secmem::SecretBytes;
use keycore_store::{Record, Revision};
use keycore_wire::ClusterId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::records::{CLUSTER, ONLY};
use crate::seal::{DeriveError, Place, SealingKeys, associated_data, decrypt, derive_key, encrypt};

const FORMAT: u8 = 1;

/// What opens the cluster: at least [`UnsealSecret::MIN`] bytes with as much entropy as a key, since they are not
/// stretched. Every replica has the same.
pub struct UnsealSecret(SecretBytes);

impl UnsealSecret {
    /// Shortest secret, in bytes.
    pub const MIN: usize = 16;

    /// Takes over the secret.
    ///
    /// # Errors
    ///
    /// [`UnsealTooShort`].
    pub fn new(secret: SecretBytes) -> Result<Self, UnsealTooShort> {
        let length = secret.expose().len();
        if length < Self::MIN { Err(UnsealTooShort { length }) } else { Ok(Self(secret)) }
    }
}

/// The unseal secret is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the unseal secret has {length} bytes, at least 16 random ones are needed")]
pub struct UnsealTooShort {
    /// Its length in bytes.
    pub length: usize,
}

/// The cluster can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The secret does not fit.
    #[error("the unseal secret does not open this cluster; use the one that it was initialized with")]
    WrongSecret,
    /// The record of the cluster key can't be read.
    #[error("the store's record of the cluster key is damaged, or a newer version wrote it")]
    Unreadable,
    /// The store belongs to another cluster than when the engine started.
    #[error("the store now holds another cluster; start the engine anew")]
    AnotherCluster,
    /// The cryptographic library or locked memory failed.
    #[error("the cluster's keys can't be derived: {0}")]
    Derive(String),
}

/// The record of the cluster key.
#[derive(Serialize, Deserialize)]
struct Wrapped {
    format: u8,
    cluster: ClusterId,
    method: Method,
    /// Nonce, ciphertext and tag of AES-256-GCM.
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
}

/// How the wrapping key comes from what the operator holds; passphrases and shares will be others.
#[derive(Serialize, Deserialize)]
enum Method {
    /// HKDF-SHA256 of a secret with the entropy of a key.
    HighEntropySecret { salt: [u8; 32] },
}

impl Method {
    fn wrapping_key(&self, secret: &UnsealSecret) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
        match self {
            Self::HighEntropySecret { salt } => {
                derive_key(salt, secret.0.expose(), b"keycore cluster key wrap v1")
            }
        }
    }
}

/// Makes a cluster: the content of its record, to be committed as `version`, and its keys.
pub(crate) fn create(
    secret: &UnsealSecret,
    version: Revision,
) -> Result<(Vec<u8>, SealingKeys), DeriveError> {
    let (mut id, mut key) = ([0; 16], Zeroizing::new([0; 32]));
    rand::fill(&mut id)?;
    rand::fill(&mut *key)?;
    let cluster = ClusterId(id);
    Ok((wrap(secret, cluster, &*key, version)?, SealingKeys::derive(cluster, &*key)?))
}

/// Wraps the key of a cluster: the content of its record, to be committed as `version`.
pub(crate) fn wrap(
    secret: &UnsealSecret,
    cluster: ClusterId,
    key: &[u8],
    version: Revision,
) -> Result<Vec<u8>, DeriveError> {
    let mut salt = [0; 32];
    rand::fill(&mut salt)?;
    let method = Method::HighEntropySecret { salt };
    let mut wrapped = Wrapped { format: FORMAT, cluster, method, key: Vec::new() };
    let wrapping_key = wrapped.method.wrapping_key(secret)?;
    encrypt(&wrapping_key, &authenticated(cluster, version), key, &mut wrapped.key)?;
    Ok(postcard::to_allocvec(&wrapped).map_err(|_| Unspecified)?)
}

/// Opens the cluster of a record.
pub(crate) fn open(secret: &UnsealSecret, record: &Record) -> Result<SealingKeys, UnsealError> {
    let wrapped: Wrapped = postcard::from_bytes(&record.sealed).map_err(|_| UnsealError::Unreadable)?;
    if wrapped.format != FORMAT {
        return Err(UnsealError::Unreadable);
    }
    let derive = |error: DeriveError| UnsealError::Derive(error.to_string());
    let wrapping_key = wrapped.method.wrapping_key(secret).map_err(|error| derive(error.into()))?;
    let key = decrypt(&wrapping_key, &authenticated(wrapped.cluster, record.version), &wrapped.key)
        .map_err(|_| UnsealError::WrongSecret)?;
    SealingKeys::derive(wrapped.cluster, &key).map_err(derive)
}

fn authenticated(cluster: ClusterId, version: Revision) -> Vec<u8> {
    associated_data(FORMAT, cluster, Place { kind: CLUSTER, id: ONLY, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(fill: u8) -> UnsealSecret {
        UnsealSecret::new(SecretBytes::copy_from(&mut [fill; 32]).unwrap()).unwrap()
    }

    #[test]
    fn opens_with_the_same_secret_only() {
        let (sealed, keys) = create(&secret(1), Revision(1)).unwrap();
        let record = Record { id: ONLY, version: Revision(1), sealed };
        assert_eq!(open(&secret(1), &record).ok().unwrap().cluster(), keys.cluster());
        assert!(matches!(open(&secret(2), &record), Err(UnsealError::WrongSecret)));
        let moved = Record { version: Revision(2), ..record };
        assert!(matches!(open(&secret(1), &moved), Err(UnsealError::WrongSecret)));
    }

    #[test]
    fn a_short_secret_is_none() {
        let short = SecretBytes::copy_from(&mut [1; 15]).unwrap();
        assert_eq!(UnsealSecret::new(short).err(), Some(UnsealTooShort { length: 15 }));
    }
}
