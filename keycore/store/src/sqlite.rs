//! The store of one machine: a SQLite file in WAL mode, shared by processes.

mod archive;
mod commit;
mod open;
mod read;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use crate::archive::{Archive, ArchivedRecord, Inventory};
use crate::error::{CommitError, StoreError};
use crate::record::{Change, Changes, GroupTag, IndexTag, Kind, Record, RecordId, Revision};
use crate::store::Store;

/// How many commits the feed of changes reaches back.
const FEED_LENGTH: u64 = 4096;

/// A handle to a store file: one connection to SQLite.
///
/// Open one for each thread that works with the store. Processes share the file through SQLite's locks; a process
/// that dies in the middle of a commit leaves the store as it was before. Commits are durable (`synchronous=FULL`).
pub struct SqliteStore {
    db: Connection,
    path: PathBuf,
    seen: Option<Seen>,
}

/// The revision as it was read last, good for as long as SQLite's `data_version` stays the same.
#[derive(Clone, Copy)]
struct Seen {
    data_version: i64,
    revision: Revision,
}

impl SqliteStore {
    /// Opens the store in the file `path`, and makes it (mode 0600) if it is not there. The directory must exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file can't be opened, if others could read or replace it, or if it is not a store of a
    /// format that this program knows.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = open::open(path)?;
        Ok(Self { db, path: path.to_owned(), seen: None })
    }

    fn fail(&self, error: rusqlite::Error) -> StoreError {
        blame(&self.path, error)
    }
}

impl Store for SqliteStore {
    fn revision(&mut self) -> Result<Revision, StoreError> {
        let data_version = read::data_version(&self.db).map_err(|error| self.fail(error))?;
        if let Some(seen) = self.seen
            && seen.data_version == data_version
        {
            return Ok(seen.revision);
        }
        // A commit between the two reads is no harm: the revision is then newer than `data_version`, and the next
        // call reads it again.
        let revision = read::revision(&self.db).map_err(|error| self.fail(error))?;
        self.seen = Some(Seen { data_version, revision });
        Ok(revision)
    }

    fn load(&mut self, kind: Kind, id: RecordId) -> Result<Option<Record>, StoreError> {
        read::load(&self.db, kind, id).map_err(|error| self.fail(error))
    }

    fn find(&mut self, kind: Kind, tag: &IndexTag) -> Result<Option<Record>, StoreError> {
        read::find(&self.db, kind, tag).map_err(|error| self.fail(error))
    }

    fn scan(
        &mut self,
        kind: Kind,
        group: Option<&GroupTag>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        read::scan(&self.db, kind, group, after, limit).map_err(|error| self.fail(error))
    }

    fn count(&mut self, kind: Kind, group: Option<&GroupTag>) -> Result<u64, StoreError> {
        read::count(&self.db, kind, group).map_err(|error| self.fail(error))
    }

    fn walk(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<(Kind, Record)>, StoreError> {
        read::walk(&self.db, after, limit).map_err(|error| self.fail(error))
    }

    fn total(&mut self) -> Result<u64, StoreError> {
        read::total(&self.db).map_err(|error| self.fail(error))
    }

    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, CommitError> {
        let revision =
            commit::commit(&mut self.db, base, changes).map_err(|error| blame_commit(&self.path, error))?;
        // `data_version` does not count this connection's own commits.
        if let Some(seen) = &mut self.seen {
            seen.revision = revision;
        }
        Ok(revision)
    }

    fn erase(&mut self) -> Result<Revision, StoreError> {
        self.seen = None;
        commit::erase(&mut self.db).map_err(|error| self.fail(error))
    }

    fn changes_since(&mut self, since: Revision) -> Result<(Revision, Changes), StoreError> {
        if self.revision()? == since {
            return Ok((since, Changes::These(Vec::new())));
        }
        read::changes_since(&mut self.db, since).map_err(|error| blame(&self.path, error))
    }
}

impl Archive for SqliteStore {
    fn begin_export(&mut self) -> Result<Inventory, StoreError> {
        archive::begin_export(&self.db).map_err(|error| self.fail(error))
    }

    fn export(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<ArchivedRecord>, StoreError> {
        archive::export(&self.db, after, limit).map_err(|error| self.fail(error))
    }

    fn end_export(&mut self) {
        archive::end(&self.db);
    }

    fn begin_import(&mut self) -> Result<Revision, CommitError> {
        self.seen = None;
        archive::begin_import(&self.db).map_err(|error| blame_commit(&self.path, error))
    }

    fn import(&mut self, records: &[ArchivedRecord]) -> Result<(), CommitError> {
        archive::import(&self.db, records).map_err(|error| blame_commit(&self.path, error))
    }

    fn commit_import(&mut self, revision: Revision) -> Result<(), CommitError> {
        archive::commit_import(&self.db, revision).map_err(|error| blame_commit(&self.path, error))
    }

    fn abort_import(&mut self) {
        archive::end(&self.db);
    }
}

fn blame_commit(path: &Path, error: commit::Error) -> CommitError {
    match error {
        commit::Error::Conflict => CommitError::Conflict,
        commit::Error::Taken(kind) => CommitError::Taken(kind),
        commit::Error::Repeated(kind, id) => CommitError::Repeated { kind, id },
        commit::Error::Sqlite(error) => CommitError::Store(blame(path, error)),
    }
}

/// Sorts SQLite's errors by who has to act.
fn blame(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::NotAStore { path },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, detail: error.to_string() },
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(_) => StoreError::Sqlite { path, source: error },
        None => match error {
            // A value of the wrong type or length, or no row where there is always one.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::QueryReturnedNoRows => StoreError::Damaged { path, detail: error.to_string() },
            source => StoreError::Sqlite { path, source },
        },
    }
}
