use serde::{Deserialize, Serialize};

use crate::ids::IdempotencyKey;
use crate::ops::generate_key::KeyTemplate;
use crate::secret::Secret;

/// Longest private key that can be imported, in bytes of DER: RSA-4096 takes about 2,400, ML-DSA-87 4,950.
pub const MAX_PKCS8: usize = 8192;

/// Takes in a key that was made elsewhere; it belongs to the user who asks.
///
/// Repeats and labels as with `GenerateKey`; the same key pair twice for one user is refused with `AlreadyExists`,
/// anything but a valid key of a supported algorithm with `InvalidKey`. An imported key never
/// wraps others: whoever brought it in may know it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportKey {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// What the key shall be.
    pub template: KeyTemplate,
    /// The key.
    pub key: PlainKey,
}

/// A key outside of an engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlainKey {
    /// A private key: unencrypted PKCS#8 (RFC 5958) in DER, at most [`MAX_PKCS8`] bytes; it names its algorithm.
    Pkcs8(Secret),
    /// An AES key of 16, 24 or 32 bytes.
    Aes(Secret),
    /// A generic secret of 1 to 512 bytes.
    GenericSecret(Secret),
}
