//! The format of a cluster's backups: files of the [age format](https://age-encryption.org/v1), version 1, encrypted to
//! X25519 recipients, so that `age -d` opens them as well.
//!
//! ```text
//! age-encryption.org/v1
//! -> keycore-backup cluster=… revision=… …      the manifest: readable by everybody, authenticated by the header's MAC
//! -> X25519 …                                   the file key, once for each recipient
//! --- MAC
//! nonce ‖ chunks of 64 KiB (ChaCha20-Poly1305)  length-prefixed items: cluster keys, records, end
//! ```
//!
//! The format is implemented here on aws-lc-rs, because the `age` crate brings a translation engine and a second set of
//! cryptographic primitives, some seventy crates, into the process that holds the keys. The tests let the reference
//! implementation open what this crate writes, and the other way round.
//!
//! * [`Identity`], [`Recipient`]: who can open backups, who they are made for
//! * [`CustodianShare`]: an identity that several people have together; [`Share`]: the scheme, which unsealing uses as well
//! * [`BackupWriter`], [`BackupReader`]: items in and out, a chunk in memory at a time
//! * [`Manifest`]: what is known of a backup without opening it

mod age;
mod error;
mod identity;
mod item;
mod manifest;
mod reader;
mod shares;
mod writer;

pub use age::FileKey;
pub use error::{BackupError, InvalidKeyText};
pub use identity::{Fingerprint, Identity, Recipient};
pub use item::{ClusterKey, Item, SealedRecord};
pub use manifest::Manifest;
pub use reader::{BackupReader, Opener};
pub use shares::{CustodianShare, Share, ShareError, SharePurpose};
pub use writer::{BackupWriter, Written};
