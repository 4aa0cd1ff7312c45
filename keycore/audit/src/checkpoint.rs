//! Checkpoints: the cluster's audit key signs where a log stands.
//!
//! A checkpoint is a record whose signature covers everything before it: its sequence number less one and the head there. The
//! engine puts the newest one of each replica into the store as well, where it is the replica's anchor: a log that ends before
//! its anchor, or leads to another head there, was cut off, put back or written anew. What was signed:
//!
//! ```text
//! "keycore audit checkpoint v1" ‖ cluster (16) ‖ replica (2) ‖ boot (4) ‖ time (8) ‖ sequence (8) ‖ head (32)
//! ```
//!
//! Numbers are big-endian, the signature is Ed25519 (RFC 8032).

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use keycore_wire::{AuditAnchor, ClusterId};

use crate::entry::{Entry, Subject};

/// Name of a checkpoint's operation.
pub const OPERATION: &str = "Checkpoint";

/// DER of a SubjectPublicKeyInfo of Ed25519 (RFC 8410) before the key.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The public half of a cluster's audit key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditKey(pub [u8; 32]);

impl AuditKey {
    /// Whether this key signed the checkpoint.
    pub fn signed(&self, cluster: ClusterId, anchor: &AuditAnchor) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&statement(cluster, anchor), &anchor.signature)
            .is_ok()
    }

    /// DER SubjectPublicKeyInfo (RFC 8410), as openssl reads it.
    pub fn to_spki(self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0].concat()
    }

    /// Reads a DER SubjectPublicKeyInfo of Ed25519; nothing else is one of an audit key.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(Self)
    }
}

/// The bytes that a checkpoint's signature is over.
pub fn statement(cluster: ClusterId, anchor: &AuditAnchor) -> Vec<u8> {
    [
        &b"keycore audit checkpoint v1"[..],
        &cluster.0,
        &anchor.replica.to_be_bytes(),
        &anchor.boot.to_be_bytes(),
        &anchor.at_micros.to_be_bytes(),
        &anchor.sequence.to_be_bytes(),
        &anchor.head,
    ]
    .concat()
}

/// The record of a checkpoint.
pub(crate) fn entry(cluster: ClusterId, anchor: &AuditAnchor) -> Entry<'_> {
    let subject = Subject::Checkpoint { cluster, signature: &anchor.signature };
    Entry::by_engine(anchor.at_micros, OPERATION, subject, "")
}
