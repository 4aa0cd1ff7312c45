//! The hash-chained audit log: record format, writer, reader and offline verifier.
//!
//! Each engine replica writes a log of its own: a gapless sequence of records, each of which carries the SHA-256
//! over the one before it and itself. Whoever changes, drops or reorders a record has to change everything behind it.
//! `docs/audit-log.md` describes the bytes, and what the chain can't show.
//!
//! * [`Entry`]: what is recorded
//! * [`Log`]: chains entries, buffers them and hands them to a [`Sink`]
//! * [`file`](mod@file): the sink that the engine uses, segments in a directory
//! * [`checkpoint`]: signatures of the cluster's audit key over where a log stands
//! * [`verify`], [`read`], [`Reader`], [`Merged`]: the other side, for `hsm audit`

mod chain;
pub mod checkpoint;
mod entry;
pub mod file;
mod log;
mod merged;
mod pairing;
mod peer;
mod reader;
mod verify;

pub use chain::{Chain, Head};
pub use checkpoint::AuditKey;
pub use entry::{Command, Entry, MAX_DETAIL, Outcome, Subject, User};
pub use file::{Outlived, Retention};
pub use log::{AuditError, Log, Past, Sink};
pub use merged::Merged;
pub use pairing::{Changes, Unfinished};
pub use peer::{CertificateSha256, Peer, network_of};
pub use reader::Reader;
pub use verify::{Record, ReplicaReport, Report, Trust, VerifyError, Wrong, read, replicas_in, verify};
