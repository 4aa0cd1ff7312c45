use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, SpkiSha256};
use crate::names::KeyLabel;

/// Names one key of the user who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeySelector {
    /// By its id.
    Id(KeyId),
    /// By its label.
    Label(KeyLabel),
    /// By its public key: how the key of a certificate is found.
    SpkiSha256(SpkiSha256),
}

/// Finds a key of the user. Refused with `NotFound`, also if the key is another user's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FindKey {
    /// Which.
    pub key: KeySelector,
}
