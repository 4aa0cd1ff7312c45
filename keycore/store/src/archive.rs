//! A store as a whole: read out at one revision, filled once.

use crate::error::{CommitError, StoreError};
use crate::record::{GroupTag, IndexTag, Kind, RecordId, Revision};

/// A record with everything that the store keeps of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// Its kind.
    pub kind: Kind,
    /// Which one of its kind.
    pub id: RecordId,
    /// The revision of the commit that wrote it.
    pub version: Revision,
    /// All its unique tags, in no order.
    pub index: Vec<IndexTag>,
    /// The group that it belongs to.
    pub group: Option<GroupTag>,
    /// The sealed content.
    pub sealed: Vec<u8>,
}

/// What an export will read: all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The revision of that moment.
    pub revision: Revision,
    /// How many records each kind has, by kind; kinds without a record are left out.
    pub counts: Vec<(Kind, u64)>,
}

/// Backups and restores. A handle of its own, used for nothing else: while one export or import is under way, the
/// other handles of the store go on, but no other import begins.
pub trait Archive: Send {
    /// Holds on to the store as it is now, until [`Archive::end_export`]. Writers are not held up, but the space of what
    /// they overwrite is not reused until then. An export that was under way ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn begin_export(&mut self) -> Result<Inventory, StoreError>;

    /// At most `limit` records of the moment that [`Archive::begin_export`] held on to, by kind and id, from the first
    /// one behind `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read.
    fn export(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<ArchivedRecord>, StoreError>;

    /// Lets go of the moment. Without an export, nothing happens.
    fn end_export(&mut self);

    /// Begins to fill an empty store, new or erased; returns its revision. Nothing is seen of it before [`Archive::commit_import`]; until then other commits
    /// wait, and fail after a few seconds. Whatever ends this process undoes it.
    ///
    /// # Errors
    ///
    /// [`CommitError::Conflict`]: the store is not empty. [`CommitError::Store`]: it can't be read or written.
    fn begin_import(&mut self) -> Result<Revision, CommitError>;

    /// Adds records with the versions that they have.
    ///
    /// # Errors
    ///
    /// [`CommitError::Repeated`]: a record of this id is there already. [`CommitError::Taken`]: a tag is another
    /// record's. [`CommitError::Conflict`]: no import is under way. The import can only be aborted then.
    fn import(&mut self, records: &[ArchivedRecord]) -> Result<(), CommitError>;

    /// Makes everything seen at once, at `revision`, which must be above the store's own and not below a record's version.
    /// Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`CommitError::Conflict`]: no import is under way, or `revision` is too low. [`CommitError::Store`].
    fn commit_import(&mut self, revision: Revision) -> Result<(), CommitError>;

    /// Leaves the store empty as it was. Without an import, nothing happens.
    fn abort_import(&mut self);
}
