//! Sealed records behind one small trait, with SQLite as the store of one machine.
//!
//! A store holds opaque bytes: it can neither read a record nor make one up, because the engine seals each record
//! (its kind, id and version authenticated) before it gets here. What a store does is order: every commit is one
//! compare-and-swap on the revision, all or nothing, durable when it returns, and visible to every process that
//! shares the store. `docs/store-format.md` describes what lies on the disk.
//!
//! * [`Store`]: the trait; [`Change`], [`Record`], [`Changes`] are what goes in and comes out
//! * [`Archive`]: the store as a whole, for backups and restores
//! * [`SqliteStore`]: one file, shared by the replicas of a machine

mod archive;
mod error;
mod record;
mod sqlite;
mod store;

pub use archive::{Archive, ArchivedRecord, Inventory};
pub use error::{CommitError, StoreError};
pub use record::{Change, Changes, GroupTag, IndexTag, Kind, Record, RecordId, Revision};
pub use sqlite::SqliteStore;
pub use store::Store;
