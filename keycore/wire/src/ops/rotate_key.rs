use serde::{Deserialize, Serialize};

use crate::ids::{IdempotencyKey, KeyId};
use crate::ops::generate_key::KeyInfo;

/// Replaces a key of the user by a new one of the same type, attributes, label and shares. Repeats as with `GenerateKey`.
///
/// The old key loses its label, and signs, encrypts and wraps no more. For `grace_secs` it still verifies, decrypts,
/// unwraps, derives and, as long as certificates name it, makes TLS handshakes; then it is deleted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct RotateKey {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// Which key; it has to be `local`, `token`, `modifiable` and `destroyable`.
    pub key: KeyId,
    /// How long the old key is kept.
    pub grace_secs: u32,
}

/// Most keys of one session.
pub const MAX_SESSION_KEYS: usize = 256;

/// Lists the keys that end with this session: those that were made without `token`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ListSessionKeys;

/// The keys of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKeyList {
    /// At most [`MAX_SESSION_KEYS`].
    pub keys: Vec<KeyInfo>,
}
