use serde::{Deserialize, Serialize};

use crate::algorithm::KeyAlgorithm;
use crate::ids::{IdempotencyKey, KeyId};
use crate::mechanism::{DeriveMechanism, WrapMechanism};
use crate::ops::generate_key::KeyTemplate;

/// Longest wrapped key, in bytes: a private key, and what wraps it.
pub const MAX_WRAPPED: usize = 12 * 1024;

/// Derives a secret key from another, which needs `derive`; it belongs to the user who asks and counts as imported:
/// whoever knows the other side of the derivation knows it.
///
/// Repeats, labels and attributes as with `GenerateKey`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeriveKey<'a> {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// The key to derive from.
    pub key: KeyId,
    /// How.
    #[serde(borrow)]
    pub mechanism: DeriveMechanism<'a>,
    /// What becomes of it: an AES key or a generic secret.
    pub algorithm: KeyAlgorithm,
    /// What the key shall be.
    pub template: KeyTemplate,
}

/// Wraps a key that is `extractable` under one that has `wrap`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct WrapKey {
    /// The wrapping key; of an RSA pair, its public half.
    pub wrapping: KeyId,
    /// The key to wrap: a secret key's bytes, a private key's PKCS#8.
    pub key: KeyId,
    /// How.
    pub mechanism: WrapMechanism,
}

/// A key that was wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// At most [`MAX_WRAPPED`].
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// What a wrapped key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyForm {
    /// A private key in PKCS#8.
    Pkcs8,
    /// An AES key.
    Aes,
    /// A generic secret.
    GenericSecret,
}

/// Takes in a key that is wrapped under one that has `unwrap`. Whatever is wrong with it: `DecryptionFailed`.
///
/// Repeats, labels and attributes as with `GenerateKey`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnwrapKey<'a> {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// The key that it is wrapped under.
    pub unwrapping: KeyId,
    /// How it was wrapped.
    pub mechanism: WrapMechanism,
    /// What is inside.
    pub form: KeyForm,
    /// At most [`MAX_WRAPPED`] bytes.
    #[serde(borrow, with = "serde_bytes")]
    pub wrapped: &'a [u8],
    /// What the key shall be.
    pub template: KeyTemplate,
}
