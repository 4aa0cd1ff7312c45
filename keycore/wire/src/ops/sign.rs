use serde::{Deserialize, Serialize};

use crate::algorithm::SignatureScheme;
use crate::ids::KeyId;

/// Longest message to sign, in bytes.
pub const MAX_SIGN_MESSAGE: usize = 64 * 1024;

/// Signs a message with a key of the user.
///
/// A key of usage `TlsServer` or `TlsClient` signs only its own certification request here; anything else is refused with
/// `NotATlsHandshake`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Sign<'a> {
    /// Which key.
    pub key: KeyId,
    /// How.
    pub scheme: SignatureScheme,
    /// The whole message, not its hash; at most [`MAX_SIGN_MESSAGE`] bytes.
    #[serde(borrow, with = "serde_bytes")]
    pub message: &'a [u8],
}

/// A signature, in the encoding that its scheme has in TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}
