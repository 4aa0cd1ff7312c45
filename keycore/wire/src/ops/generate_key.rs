use serde::{Deserialize, Serialize};

use crate::algorithm::{KeyAlgorithm, KeyUsage};
use crate::ids::{IdempotencyKey, KeyId, SpkiSha256, UserId};
use crate::names::KeyLabel;
use crate::session::UnixMillis;

/// Makes a key pair that belongs to the user who asks. Needs the role crypto user.
///
/// Sent again with the same idempotency key, it answers with the key that it made the first time.
/// Refused with `AlreadyExists` if the user has a key of that label.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerateKey {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// Type and size.
    pub algorithm: KeyAlgorithm,
    /// What the key may be used for.
    pub usage: KeyUsage,
    /// Unique among the user's keys.
    pub label: KeyLabel,
}

/// What a key is, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// The key.
    pub id: KeyId,
    /// Whose it is.
    pub owner: UserId,
    /// Its label.
    pub label: KeyLabel,
    /// Type and size.
    pub algorithm: KeyAlgorithm,
    /// What it may be used for.
    pub usage: KeyUsage,
    /// Whether it was made inside an engine; an imported key was known outside once.
    pub local: bool,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_sha256: SpkiSha256,
    /// When it was made or imported.
    pub created_at: UnixMillis,
}
