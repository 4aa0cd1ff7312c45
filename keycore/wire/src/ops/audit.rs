use serde::{Deserialize, Serialize};

use crate::ids::ClusterId;

/// Asks for the cluster's audit key and the newest checkpoint of every replica's audit log. Needs a login; tells no secret.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AuditAnchors;

/// What audit logs are verified against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnchorList {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its Ed25519 public key that signs checkpoints and nothing else.
    pub public_key: [u8; 32],
    /// One for each replica that ever made a checkpoint, by number.
    pub anchors: Vec<AuditAnchor>,
}

/// Where the audit log of one replica stood, signed by the cluster's audit key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnchor {
    /// Whose log.
    pub replica: u16,
    /// How many times the replica had started.
    pub boot: u32,
    /// When, in microseconds since 1970-01-01T00:00:00Z.
    pub at_micros: u64,
    /// Number of the last record that the signature covers; 0 if there was none.
    pub sequence: u64,
    /// The chain's head after that record.
    pub head: [u8; 32],
    /// Ed25519 signature, 64 bytes; `docs/audit-log.md` says over what.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}
