//! Seals the store's records, and makes the blind tags that they are found by.
//!
//! ```text
//! sealed = format (1) ‖ salt (32) ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16)
//! ```
//!
//! Each sealing derives a key of its own from the cluster's record key and a random salt (HKDF-SHA256, RFC 5869), so
//! no number of records wears out the nonces. The format, the cluster and the record's kind, id and version are
//! authenticated: a record that was moved or swapped, or put back under a newer version, does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac, rand};
use keycore_secmem::{SecmemError, SecretBytes};
use keycore_store::{GroupTag, IndexTag, Kind, RecordId, Revision};
use keycore_wire::ClusterId;
use zeroize::Zeroizing;

const FORMAT: u8 = 1;
const SALT: usize = 32;
const HEADER: usize = 1 + SALT + NONCE_LEN;

/// Where a record belongs; authenticated with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) id: RecordId,
    /// The revision of the commit that writes it.
    pub(crate) version: Revision,
}

/// The record is damaged, of another format, or does not belong where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

/// What a tag is made of, so that equal values of different sorts have different tags.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum TagOf {
    UserName = 1,
    UserRequest = 2,
    KeyLabel = 3,
    KeySpki = 4,
    KeyRequest = 5,
    KeyOwner = 6,
    SharedSpki = 16,
    KeyShares = 17,
    UserPeerUid = 24,
    QuorumOperation = 25,
}

/// The keys that a cluster's records, tags and tokens are protected with; all derived from the cluster key.
pub(crate) struct SealingKeys {
    cluster: ClusterId,
    cluster_key: SecretBytes,
    records: SecretBytes,
    tags: hmac::Key,
    tokens: hmac::Key,
}

impl SealingKeys {
    /// Derives them.
    pub(crate) fn derive(cluster: ClusterId, cluster_key: &[u8]) -> Result<Self, DeriveError> {
        let derive = |purpose: &[u8]| derive_key(&cluster.0, cluster_key, purpose);
        let mut records = derive(b"keycore records v1")?;
        Ok(Self {
            cluster,
            cluster_key: SecretBytes::copy_from(&mut Zeroizing::new(cluster_key.to_vec()))?,
            records: SecretBytes::copy_from(&mut *records)?,
            tags: hmac::Key::new(hmac::HMAC_SHA256, &*derive(b"keycore index tags v1")?),
            tokens: hmac::Key::new(hmac::HMAC_SHA256, &*derive(b"keycore session tokens v1")?),
        })
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What all of them come from; for backups.
    pub(crate) fn cluster_key(&self) -> &[u8] {
        self.cluster_key.expose()
    }

    /// Makes the tokens of all sessions until now useless, and different from those of another copy of the cluster.
    pub(crate) fn separate_sessions(&mut self, epoch: &[u8; 32]) -> Result<(), Unspecified> {
        let purpose = [&b"keycore session tokens v1"[..], epoch].concat();
        let key = derive_key(&self.cluster.0, self.cluster_key.expose(), &purpose)?;
        self.tokens = hmac::Key::new(hmac::HMAC_SHA256, &*key);
        Ok(())
    }

    /// What session tokens are authenticated with.
    pub(crate) fn tokens(&self) -> &hmac::Key {
        &self.tokens
    }

    /// Seals `content` for its place.
    pub(crate) fn seal(&self, place: Place, content: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt)?;
        let key = derive_key(&salt, self.records.expose(), b"record")?;
        let mut sealed = Vec::with_capacity(HEADER + content.len() + AES_256_GCM.tag_len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&salt);
        encrypt(&key, &self.authenticated(place), content, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens what was sealed for this very place.
    pub(crate) fn open(&self, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
        let Some((&[FORMAT], rest)) = sealed.split_first_chunk::<1>() else { return Err(NotAuthentic) };
        let (salt, encrypted) = rest.split_first_chunk::<SALT>().ok_or(NotAuthentic)?;
        let key = derive_key(salt, self.records.expose(), b"record").map_err(|_| NotAuthentic)?;
        decrypt(&key, &self.authenticated(place), encrypted)
    }

    /// A tag that names `value` of `scope` (an owner's id, for example) to the store without telling it.
    pub(crate) fn index_tag(&self, of: TagOf, scope: &[u8; 16], value: &[u8]) -> IndexTag {
        IndexTag(self.tag(of, scope, value))
    }

    /// The tag of the group that all records of `scope` belong to.
    pub(crate) fn group_tag(&self, of: TagOf, scope: &[u8; 16]) -> GroupTag {
        GroupTag(self.tag(of, scope, &[]))
    }

    fn tag(&self, of: TagOf, scope: &[u8; 16], value: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.tags);
        context.update(&[of as u8]);
        context.update(scope);
        context.update(value);
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    fn authenticated(&self, place: Place) -> Vec<u8> {
        associated_data(FORMAT, self.cluster, place)
    }
}

/// The cluster's keys can't be derived.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeriveError {
    #[error(transparent)]
    Crypto(#[from] Unspecified),
    #[error(transparent)]
    Memory(#[from] SecmemError),
}

/// What is authenticated with a record.
pub(crate) fn associated_data(format: u8, cluster: ClusterId, place: Place) -> Vec<u8> {
    [
        &b"keycore record"[..],
        &[format],
        &cluster.0,
        &[place.kind.0],
        &place.id.0,
        &place.version.0.to_be_bytes(),
    ]
    .concat()
}

/// HKDF-SHA256 (RFC 5869): 32 bytes from `secret`.
pub(crate) fn derive_key(
    salt: &[u8],
    secret: &[u8],
    purpose: &[u8],
) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut key = Zeroizing::new([0; 32]);
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    pseudorandom.expand(&[purpose], hkdf::HKDF_SHA256)?.fill(&mut *key)?;
    Ok(key)
}

/// Appends a random nonce and what `content` encrypts to.
pub(crate) fn encrypt(
    key: &[u8; 32],
    authenticated: &[u8],
    content: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unspecified> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce)?;
    out.extend_from_slice(&nonce);
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?);
    // Encrypted in a copy of its own, which holds the content for a moment and is wiped if sealing fails.
    let mut buffer = Zeroizing::new(content.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(authenticated), &mut buffer)?;
    out.extend_from_slice(&buffer);
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens what [`encrypt`] appended.
pub(crate) fn decrypt(
    key: &[u8; 32],
    authenticated: &[u8],
    encrypted: &[u8],
) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
    let (nonce, ciphertext) = encrypted.split_first_chunk::<NONCE_LEN>().ok_or(NotAuthentic)?;
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| NotAuthentic)?);
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length =
        cipher.open_in_place(nonce, Aad::from(authenticated), &mut buffer).map_err(|_| NotAuthentic)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { kind: Kind(3), id: RecordId([5; 16]), version: Revision(9) };

    fn keys(cluster: u8) -> SealingKeys {
        SealingKeys::derive(ClusterId([cluster; 16]), &[7; 32]).unwrap()
    }

    #[test]
    fn opens_in_its_place_only() {
        let sealed = keys(1).seal(PLACE, b"content").unwrap();
        assert_eq!(&**keys(1).open(PLACE, &sealed).unwrap(), b"content");
        for elsewhere in [
            Place { kind: Kind(4), ..PLACE },
            Place { id: RecordId([6; 16]), ..PLACE },
            Place { version: Revision(8), ..PLACE },
        ] {
            assert_eq!(keys(1).open(elsewhere, &sealed).err(), Some(NotAuthentic));
        }
        assert_eq!(keys(2).open(PLACE, &sealed).err(), Some(NotAuthentic));
    }

    #[test]
    fn every_bit_counts() {
        let sealed = keys(1).seal(PLACE, b"content").unwrap();
        for byte in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[byte] ^= 0x10;
            assert!(keys(1).open(PLACE, &flipped).is_err(), "byte {byte}");
            assert!(keys(1).open(PLACE, &sealed[..byte]).is_err(), "cut to {byte}");
        }
    }

    #[test]
    fn the_same_content_never_looks_the_same() {
        assert_ne!(keys(1).seal(PLACE, b"content").unwrap(), keys(1).seal(PLACE, b"content").unwrap());
    }

    #[test]
    fn tags_differ_by_sort_scope_value_and_cluster() {
        let tag = |cluster, of, scope: u8, value: &[u8]| keys(cluster).index_tag(of, &[scope; 16], value);
        let one = tag(1, TagOf::KeyLabel, 1, b"a");
        assert_eq!(one, tag(1, TagOf::KeyLabel, 1, b"a"));
        for other in [
            tag(2, TagOf::KeyLabel, 1, b"a"),
            tag(1, TagOf::KeySpki, 1, b"a"),
            tag(1, TagOf::KeyLabel, 2, b"a"),
            tag(1, TagOf::KeyLabel, 1, b"b"),
        ] {
            assert_ne!(one, other);
        }
    }
}
