//! Seals the store's records, and makes the blind tags that they are found by.
//!
//! ```text
//! sealed = format (1) ‖ generation (4) ‖ salt (32) ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16)
//! ```
//!
//! Each sealing derives a key of its own from the record key of the newest generation (`keyring.rs`) and a random salt
//! (HKDF-SHA256, RFC 5869), so no number of records wears out the nonces. The format, the cluster and the record's kind, id and version are
//! authenticated: a record that was moved or swapped, or put back under a newer version, does not open.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac, rand};
use keycore_store::{GroupTag, IndexTag, Kind, RecordId, Revision};
use keycore_wire::ClusterId;
use zeroize::Zeroizing;

use crate::keyring::{self, DeriveError, Keyring};

const FORMAT: u8 = 2;
/// Without a generation: of the first one.
const FIRST_FORMAT: u8 = 1;
const GENERATION: usize = 4;
const SALT: usize = 32;
const HEADER: usize = 1 + GENERATION + SALT + NONCE_LEN;

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
    KeyProposer = 26,
    KeyMember = 27,
    SessionKeyOwner = 28,
}

/// The keys that a cluster's records, tags and tokens are protected with. The ring changes when the cluster key is rotated.
pub(crate) struct SealingKeys {
    cluster: ClusterId,
    tags: hmac::Key,
    ring: RwLock<Arc<Keyring>>,
}

impl SealingKeys {
    /// Those of a ring.
    pub(crate) fn new(ring: Keyring) -> Self {
        let tags = hmac::Key::new(hmac::HMAC_SHA256, ring.tags().expose());
        Self { cluster: ring.cluster(), tags, ring: RwLock::new(Arc::new(ring)) }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The ring as it is now.
    pub(crate) fn ring(&self) -> Arc<Keyring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another ring of the same cluster, whose index tags are the same.
    pub(crate) fn replace(&self, ring: Keyring) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Makes the tokens of all sessions until now useless, and different from those of another copy of the cluster.
    pub(crate) fn separate_sessions(self, epoch: [u8; 32]) -> Result<Self, DeriveError> {
        let ring = self.ring.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ring = Arc::into_inner(ring).ok_or(DeriveError::Form)?;
        Ok(Self { ring: RwLock::new(Arc::new(ring.in_epoch(Some(epoch))?)), ..self })
    }

    /// Authenticates a session token or a challenge.
    pub(crate) fn sign_token(&self, token: &[u8]) -> hmac::Tag {
        hmac::sign(&self.ring().newest().tokens, token)
    }

    /// As [`SealingKeys::sign_token`], with a generation that was dropped perhaps.
    pub(crate) fn sign_token_of(&self, generation: u32, token: &[u8]) -> Result<hmac::Tag, Unspecified> {
        let ring = self.ring();
        let of = ring.generation(generation).ok_or(Unspecified)?;
        Ok(hmac::sign(&of.tokens, token))
    }

    /// Which generation authenticated it: this one, or one that is not dropped yet.
    pub(crate) fn verify_token(&self, token: &[u8], mac: &[u8]) -> Result<u32, Unspecified> {
        let ring = self.ring();
        let good = ring.generations().rev().find(|of| hmac::verify(&of.tokens, token, mac).is_ok());
        good.map(|of| of.number).ok_or(Unspecified)
    }

    /// Seals `content` for its place.
    pub(crate) fn seal(&self, place: Place, content: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let ring = self.ring();
        let newest = ring.newest();
        let mut salt = [0; SALT];
        rand::fill(&mut salt)?;
        let key = derive_key(&salt, newest.records.expose(), b"record")?;
        let mut sealed = Vec::with_capacity(HEADER + content.len() + AES_256_GCM.tag_len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&newest.number.to_be_bytes());
        sealed.extend_from_slice(&salt);
        encrypt(&key, &self.authenticated(FORMAT, place), content, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens what was sealed for this very place.
    pub(crate) fn open(&self, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
        let (format, number, rest) = split_header(sealed).ok_or(NotAuthentic)?;
        let (salt, encrypted) = rest.split_first_chunk::<SALT>().ok_or(NotAuthentic)?;
        let ring = self.ring();
        let generation = ring.generation(number).ok_or(NotAuthentic)?;
        let key = derive_key(salt, generation.records.expose(), b"record").map_err(|_| NotAuthentic)?;
        decrypt(&key, &self.authenticated(format, place), encrypted)
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

    fn authenticated(&self, format: u8, place: Place) -> Vec<u8> {
        associated_data(format, self.cluster, place)
    }
}

/// The generation that a record says it was sealed with.
pub(crate) fn generation_of(sealed: &[u8]) -> Option<u32> {
    split_header(sealed).map(|(_, number, _)| number)
}

/// Format, generation and what follows.
fn split_header(sealed: &[u8]) -> Option<(u8, u32, &[u8])> {
    match sealed.split_first()? {
        (&FIRST_FORMAT, rest) => Some((FIRST_FORMAT, keyring::FIRST, rest)),
        (&FORMAT, rest) => {
            let (number, rest) = rest.split_first_chunk::<GENERATION>()?;
            Some((FORMAT, u32::from_be_bytes(*number), rest))
        }
        _ => None,
    }
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
        SealingKeys::new(Keyring::first(ClusterId([cluster; 16]), &[7; 32]).unwrap())
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
