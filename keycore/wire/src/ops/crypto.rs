use serde::{Deserialize, Serialize};

use crate::ids::KeyId;
use crate::mechanism::{CipherMechanism, Hash, SignMechanism};
use crate::secret::Secret;

/// Longest input of a signature, a digest or a cipher, in bytes. What is longer is hashed by the caller, or cut.
pub const MAX_CRYPTO_INPUT: usize = 64 * 1024;

/// Signs, or makes an authentication code, by any mechanism that the key's algorithm has. The key needs `sign`.
///
/// Refused with `MechanismNotOffered` where the mechanism is not the key's, and for RSA with SHA-1 and SHA-224.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignData<'a> {
    /// The key.
    pub key: KeyId,
    /// How.
    pub mechanism: SignMechanism,
    /// Whether `data` is the message's digest; for RSA and ECDSA.
    pub prehashed: bool,
    /// At most [`MAX_CRYPTO_INPUT`] bytes.
    #[serde(borrow, with = "serde_bytes")]
    pub data: &'a [u8],
}

/// Whose signature is verified.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Signer<'a> {
    /// A key of the engine's, which needs `verify`.
    Key(KeyId),
    /// Anybody's public key, a SubjectPublicKeyInfo in DER.
    PublicKey(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
}

/// Verifies a signature or an authentication code: answered if it is right, refused with `WrongSignature` if not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyData<'a> {
    /// Whose.
    #[serde(borrow)]
    pub signer: Signer<'a>,
    /// How it was made.
    pub mechanism: SignMechanism,
    /// Whether `data` is the message's digest; for RSA and ECDSA.
    pub prehashed: bool,
    /// At most [`MAX_CRYPTO_INPUT`] bytes.
    #[serde(borrow, with = "serde_bytes")]
    pub data: &'a [u8],
    /// The signature.
    #[serde(borrow, with = "serde_bytes")]
    pub signature: &'a [u8],
}

/// Encrypts. The key needs `encrypt`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Encrypt<'a> {
    /// The key; of an RSA pair, its public half.
    pub key: KeyId,
    /// How.
    #[serde(borrow)]
    pub mechanism: CipherMechanism<'a>,
    /// Initialization vector of CBC and CTR, 16 bytes; empty: the engine makes it, which is better. Always empty for GCM.
    #[serde(borrow, with = "serde_bytes")]
    pub iv: &'a [u8],
    /// At most [`MAX_CRYPTO_INPUT`] bytes.
    #[serde(borrow, with = "serde_bytes")]
    pub data: &'a [u8],
}

/// What was encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ciphertext {
    /// Initialization vector: 12 bytes of GCM, 16 of CBC and CTR, otherwise none.
    #[serde(with = "serde_bytes")]
    pub iv: Vec<u8>,
    /// The ciphertext.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Decrypts. The key needs `decrypt`. Whatever is wrong with a ciphertext: `DecryptionFailed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decrypt<'a> {
    /// The key.
    pub key: KeyId,
    /// How it was encrypted.
    #[serde(borrow)]
    pub mechanism: CipherMechanism<'a>,
    /// The initialization vector, as `Encrypt` returned it.
    #[serde(borrow, with = "serde_bytes")]
    pub iv: &'a [u8],
    /// At most [`MAX_CRYPTO_INPUT`] bytes, and a block and a tag.
    #[serde(borrow, with = "serde_bytes")]
    pub data: &'a [u8],
}

/// What was decrypted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plaintext {
    /// The bytes.
    pub bytes: Secret,
}

/// Hashes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Digest<'a> {
    /// With which function.
    pub hash: Hash,
    /// At most [`MAX_CRYPTO_INPUT`] bytes.
    #[serde(borrow, with = "serde_bytes")]
    pub data: &'a [u8],
}

/// A digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestValue {
    /// As long as the hash's.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}
