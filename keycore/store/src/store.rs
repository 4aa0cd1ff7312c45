//! The trait that the engine knows a store by.

use crate::error::{CommitError, StoreError};
use crate::record::{Change, Changes, GroupTag, IndexTag, Kind, Record, RecordId, Revision};

/// Sealed records, changed by compare-and-swap. One handle serves one thread; handles of several threads and
/// processes share the records.
///
/// A read sees every commit that returned before the read began, whichever handle made it.
pub trait Store: Send {
    /// The current revision. Costs microseconds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn revision(&mut self) -> Result<Revision, StoreError>;

    /// One record by its id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn load(&mut self, kind: Kind, id: RecordId) -> Result<Option<Record>, StoreError>;

    /// The one record that has a tag.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn find(&mut self, kind: Kind, tag: &IndexTag) -> Result<Option<Record>, StoreError>;

    /// At most `limit` records of a kind, or of one of its groups, in the order of their ids, from the first one
    /// behind `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn scan(
        &mut self,
        kind: Kind,
        group: Option<&GroupTag>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// How many records a kind, or one of its groups, has. Costs the same for one and for a million.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn count(&mut self, kind: Kind, group: Option<&GroupTag>) -> Result<u64, StoreError>;

    /// At most `limit` records of all kinds, in the order of their kinds and ids, from the first one behind `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn walk(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<(Kind, Record)>, StoreError>;

    /// How many records of all kinds there are; costs as [`Store::count`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn total(&mut self) -> Result<u64, StoreError>;

    /// Makes all changes or none, if the store is still at `base`, and returns the new revision: `base + 1`.
    /// Durable when it returns. A tag may move from one record to another within a commit.
    ///
    /// # Errors
    ///
    /// [`CommitError::Conflict`]: somebody else was faster; read again and decide anew. [`CommitError::Taken`]: a
    /// tag belongs to a record that this commit does not take it from. [`CommitError::Repeated`]: a record is named twice.
    /// In these cases nothing was changed. [`CommitError::Store`]: the store failed; if it failed while it committed,
    /// the changes may have been made, so look before doing it again.
    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, CommitError>;

    /// Deletes all records, and counts the revision up; the feed does not tell which, so whoever follows reads anew. What
    /// was deleted is overwritten in the file, and the journals that had it are emptied.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store failed; look whether it is empty.
    fn erase(&mut self) -> Result<Revision, StoreError>;

    /// The current revision, and which records changed after `since`. Meant to be polled: when nothing happened it
    /// costs microseconds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn changes_since(&mut self, since: Revision) -> Result<(Revision, Changes), StoreError>;
}
