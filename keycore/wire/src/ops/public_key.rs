use serde::{Deserialize, Serialize};

use crate::ops::find_key::KeySelector;
use crate::ops::generate_key::KeyInfo;

/// Asks for the public half of a key of the user. Refused with `NotFound`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicKey {
    /// Which.
    pub key: KeySelector,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKeyReply {
    /// Which key it is of.
    pub info: KeyInfo,
    /// DER SubjectPublicKeyInfo (RFC 5280, section 4.1).
    #[serde(with = "serde_bytes")]
    pub spki: Vec<u8>,
}
