//! The age format, version 1 (C2SP `age.md`), as far as backups need it: X25519 recipients and binary payloads.

pub(crate) mod header;
pub(crate) mod payload;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::Zeroizing;

use crate::identity::{Identity, Recipient};

/// What a file's payload and header are protected with; made anew for each file.
pub struct FileKey(Zeroizing<[u8; Self::LEN]>);

/// The file key, encrypted to one recipient.
pub(crate) struct Wrapped {
    pub(crate) share: [u8; 32],
    pub(crate) body: [u8; FileKey::LEN + TAG],
}

/// Length of a Poly1305 tag.
pub(crate) const TAG: usize = 16;

impl FileKey {
    const LEN: usize = 16;

    pub(crate) fn generate() -> Result<Self, Unspecified> {
        let mut key = Zeroizing::new([0; Self::LEN]);
        rand::fill(&mut *key)?;
        Ok(Self(key))
    }

    pub(crate) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Encrypts it to `recipient`, with an ephemeral key pair of its own.
    pub(crate) fn wrap(&self, recipient: &Recipient) -> Result<Wrapped, Unspecified> {
        let ephemeral = Identity::generate()?;
        let share = ephemeral.recipient()?.0;
        let key = wrapping_key(&ephemeral, &recipient.0, &share, &recipient.0)?;
        let mut body = [0; Self::LEN + TAG];
        let (content, tag) = body.split_at_mut(Self::LEN);
        content.copy_from_slice(&*self.0);
        tag.copy_from_slice(
            cipher(&key)?.seal_in_place_separate_tag(zero_nonce(), Aad::empty(), content)?.as_ref(),
        );
        Ok(Wrapped { share, body })
    }

    /// Opens what was wrapped for `identity`; `None` if it was for another.
    pub(crate) fn open(identity: &Identity, wrapped: &Wrapped) -> Result<Option<Self>, Unspecified> {
        let own = identity.recipient()?.0;
        let Ok(key) = wrapping_key(identity, &wrapped.share, &wrapped.share, &own) else { return Ok(None) };
        let mut body = Zeroizing::new(wrapped.body);
        let Ok(opened) = cipher(&key)?.open_in_place(zero_nonce(), Aad::empty(), &mut *body) else {
            return Ok(None);
        };
        let mut file_key = Zeroizing::new([0; Self::LEN]);
        file_key.copy_from_slice(opened);
        Ok(Some(Self(file_key)))
    }

    /// The key of the header's MAC.
    pub(crate) fn mac_key(&self) -> Result<hmac::Key, Unspecified> {
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], &*self.0, b"header")?))
    }

    /// The key of the payload behind `nonce`.
    pub(crate) fn payload_key(&self, nonce: &[u8; 16]) -> Result<LessSafeKey, Unspecified> {
        cipher(&*derive(nonce, &*self.0, b"payload")?)
    }
}

fn wrapping_key(
    private: &Identity,
    public: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let private = PrivateKey::from_private_key(&X25519, private.expose()).map_err(|_| Unspecified)?;
    let salt = [*share, *recipient].concat();
    // A shared secret of zeros, from a point of small order, is an error of the library.
    agreement::agree(&private, UnparsedPublicKey::new(&X25519, public), Unspecified, |shared| {
        derive(&salt, shared, b"age-encryption.org/v1/X25519")
    })
}

fn derive(salt: &[u8], secret: &[u8], purpose: &[u8]) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut key = Zeroizing::new([0; 32]);
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    pseudorandom.expand(&[purpose], hkdf::HKDF_SHA256)?.fill(&mut *key)?;
    Ok(key)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?))
}

/// The wrapping key is used once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}
