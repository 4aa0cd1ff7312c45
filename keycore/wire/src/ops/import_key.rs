use serde::{Deserialize, Serialize};

use crate::algorithm::KeyUsage;
use crate::ids::IdempotencyKey;
use crate::names::KeyLabel;
use crate::secret::Secret;

/// Longest private key that can be imported, in bytes of DER: RSA-4096 takes about 2,400.
pub const MAX_PKCS8: usize = 4096;

/// Takes in a private key that was made elsewhere; it belongs to the user who asks and never leaves again.
///
/// Repeats and labels as with `GenerateKey`; the same key twice for one user is refused with `AlreadyExists`,
/// anything but a valid key of a supported algorithm with `InvalidKey`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportKey {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// What the key may be used for.
    pub usage: KeyUsage,
    /// Unique among the user's keys.
    pub label: KeyLabel,
    /// Unencrypted PKCS#8 (RFC 5958) in DER, at most [`MAX_PKCS8`] bytes.
    pub pkcs8: Secret,
}
