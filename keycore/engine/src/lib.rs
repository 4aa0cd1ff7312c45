//! The HSM's rules: sessions, users, policy, keys and audit; no sockets, no files, no clock.
//!
//! An [`Engine`] is shared by the daemon's event loop, its worker threads and its follower thread:
//!
//! ```text
//! frame ─▶ begin(connection, now, body) ─▶ Step::Answer ─▶ send
//!                                       └▶ Step::Job ─▶ worker: run(job, now) ─▶ finish(connection, …) ─▶ send
//! ```
//!
//! **Two planes.** The data plane (handshake signatures, signatures, random bytes) reads a snapshot of users and
//! sessions and a bounded cache of unsealed keys, and is answered in `begin`; only a key that is not cached, an RSA or
//! P-521 key, or a long message makes a job of it. The control plane (logins, users, keys) runs on workers; each change is one compare-and-swap
//! on the store's revision, so that replicas that share the store agree. [`Engine::follow`] brings the changes of the
//! siblings into the snapshot and drops what was deleted from the cache.
//!
//! **One pipeline.** Every request goes through `pipeline.rs`: session → authorize → quorum → execute → audit. What
//! uses a key or changes a user demands a `Permission`, which only `policy.rs` makes, after it looked the operation
//! up in its table. A private key signs only what `signable.rs` took for signable under the key's usage; for a TLS-bound key
//! that is the content of a TLS server's handshake, recognised by all of its bytes in `tls_message.rs`.
//!
//! **M of N.** The table says which operations need other admins' approvals (`quorum.rs`); a `Permission` for one comes from
//! the quorum step only, and its approvals are used up in the transaction of what was approved.
//!
//! **What the store sees.** Sealed records (`seal.rs`) and blind tags. A record that was changed, moved, swapped or put
//! back under another version does not open. A record put back together with its version does, and so does a whole store of
//! yesterday; a running engine notices only that the revision went back, and changes nothing any more. One that can't follow the cluster key any
//! more does nothing at all (`left_behind.rs`).
//!
//! **What is audited.** Every operation, signatures included, before its answer is given; management is on the disk
//! before its answer is. If the log can't be written, nothing is done. Not recorded one by one: successful hellos, pings and
//! cluster information (they tell no secret and need no login), the pieces of a backup between its begin and its end, and floods of refusals that cost the peer nothing
//! (malformed, not logged in): one record per second and connection, 32 per second in all, with the number of the others.
//!
//! **Backups.** The store as it is at one revision, sealed, with the cluster key, encrypted to recipients whose identities the engine
//! does not have (`backup.rs`). Restored into an empty store only, all or nothing, with no session from before.
//!
//! **Identity.** The cluster has one key pair for TLS between its engines and clients on the network, made inside and never given
//! out; the operator's CA certifies it (`identity.rs`).
//!
//! **Sealed.** The cluster key comes from what the engine's configuration holds, or from custodians' shares (`cluster.rs`,
//! `unseal.rs`). Until it is there, the engine answers what it is and takes shares, and nothing else.
//!
//! **Self-tests.** Before anything is unsealed every algorithm proves that it works; once a self-test failed, the engine does nothing
//! more (`self_test.rs`).
//!
//! **Lockout.** Six wrong passwords in a row lock an account on all replicas; each attempt is counted in the store before it is
//! checked. An admin unlocks it by setting a new password. Sessions go on, so whoever reaches the socket can't stop a
//! proxy that is logged in by guessing at its password. An admin's own account takes one more attempt after a pause that
//! doubles, from a quarter of an hour to a day, so that guessing locks no cluster for good.

mod attributes;
mod backup;
mod certification_request;
mod cluster;
mod cluster_rotation;
mod connection;
mod denial;
mod der;
mod engine;
mod error;
mod expiry;
mod follow;
mod handover;
mod identity;
mod job;
mod journal;
mod key_cache;
mod key_changes;
mod key_sharing;
mod keyring;
mod keys;
mod ledger;
mod left_behind;
mod lifecycle;
mod login;
mod material;
mod mechanism;
mod notary;
mod options;
mod password;
mod pipeline;
mod policy;
mod private_key;
mod quorum;
mod records;
mod roca;
mod rotation;
mod seal;
mod second_factor;
mod self_test;
mod session;
mod session_keys;
mod session_registry;
mod sessions;
mod signable;
mod snapshot;
mod tls_message;
mod unseal;
mod unseal_secret;
mod user_keys;
mod users;
mod wrapping;
mod zeroization;

pub use backup::{BackupFile, BackupPlace, BackupPlan};
pub use cluster::UnsealError;
pub use cluster_rotation::Resealed;
pub use connection::Connection;
pub use engine::Engine;
pub use error::{FollowError, OpenError};
pub use identity::{ClusterIdentity, IdentityFailed};
pub use job::{Answer, Cost, Finished, Job, Leisure, Step};
pub use keycore_audit::{CertificateSha256, Peer, network_of};
pub use keycore_backup::Recipient as BackupRecipient;
pub use left_behind::LeftBehind;
pub use notary::{LifeEvent, NotaryError, RolledBack};
pub use options::{Now, Options, PasswordCost};
pub use unseal_secret::{UnsealSecret, UnsealTooShort};
