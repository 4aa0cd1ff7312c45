use serde::{Deserialize, Serialize};

use crate::algorithm::KeyAlgorithm;
use crate::attribute::{AttributeTemplate, Attributes};
use crate::ids::{IdempotencyKey, KeyId, SpkiSha256, UserId};
use crate::names::{KeyLabel, UserName};
use crate::ops::share_key::sharees;
use crate::session::UnixMillis;

/// Makes a key or key pair that belongs to the user who asks. Needs the role crypto user.
///
/// Sent again with the same idempotency key, it answers with the key that it made the first time.
/// Refused with `AlreadyExists` if the user has a key of that label, with `InvalidAttributes` if the attributes don't
/// go together or not with the algorithm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerateKey {
    /// Names this request.
    pub idempotency_key: IdempotencyKey,
    /// Type and size.
    pub algorithm: KeyAlgorithm,
    /// What the key shall be.
    pub template: KeyTemplate,
}

/// What a new key shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTemplate {
    /// Unique among the user's keys.
    pub label: KeyLabel,
    /// All that shall be on, of those that are its maker's to choose: never `trusted` (an admin's to give), `private`,
    /// `local`, `always-sensitive`, `never-extractable` (the engine's to tell).
    pub attributes: Attributes,
    /// How many of those who may use it have to agree when it is changed, shared, wrapped, rotated or deleted, or unwraps:
    /// 2 to [`MAX_QUORUM`](crate::MAX_QUORUM); 0 and 1 are none.
    pub quorum_management: u8,
    /// The same for when it signs, encrypts, decrypts or derives.
    pub quorum_usage: u8,
    /// What it demands of the keys that it wraps.
    pub wrap_template: Option<AttributeTemplate>,
    /// What it gives to the keys that it unwraps.
    pub unwrap_template: Option<AttributeTemplate>,
    /// Crypto users whom it is shared with from the beginning; at most [`MAX_SHARES`](crate::MAX_SHARES).
    #[serde(deserialize_with = "sharees")]
    pub share_with: Vec<UserName>,
}

impl KeyTemplate {
    /// A key with this usage, and the default of everything else.
    pub fn new(label: KeyLabel, usage: Attributes) -> Self {
        Self {
            label,
            attributes: Attributes::DEFAULT.with(usage),
            quorum_management: 0,
            quorum_usage: 0,
            wrap_template: None,
            unwrap_template: None,
            share_with: Vec::new(),
        }
    }
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
    /// What it is and may be used for.
    pub attributes: Attributes,
    /// SHA-256 of its SubjectPublicKeyInfo; none for a secret key.
    pub spki_sha256: Option<SpkiSha256>,
    /// AES: first bytes of the zero block encrypted. Otherwise of the SHA-1 of the public key (RFC 5280's
    /// subjectPublicKey) or of the generic secret.
    pub check_value: [u8; 3],
    /// Approvals that changing, sharing, wrapping or deleting it takes; 0 and 1 are none.
    pub quorum_management: u8,
    /// Approvals that using it takes.
    pub quorum_usage: u8,
    /// What it demands of the keys that it wraps.
    pub wrap_template: Option<AttributeTemplate>,
    /// What it gives to the keys that it unwraps.
    pub unwrap_template: Option<AttributeTemplate>,
    /// The key that it replaced by a rotation.
    pub predecessor: Option<KeyId>,
    /// Set when it was rotated: until then it verifies, unwraps and decrypts, then it is deleted.
    pub retired_until: Option<UnixMillis>,
    /// When it was made or imported.
    pub created_at: UnixMillis,
}
