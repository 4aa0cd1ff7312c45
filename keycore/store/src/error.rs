//! What can go wrong, split by who has to act.

use std::io;
use std::path::PathBuf;

use crate::record::{Kind, RecordId};

/// The store can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("can't open the store {}: {source}", path.display())]
    Open {
        /// The store's file or its directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody else could read or replace the records.
    #[error("{} {problem}; {remedy}", path.display())]
    Exposed {
        /// The store's file or its directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The file belongs to another program.
    #[error("{} is not a keycore store; name another file, or move this one away", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("{} has store format {found}, this program knows {known}; install the newer version", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The content contradicts itself: a broken disk, or somebody wrote into the file.
    #[error("the store {} is damaged ({detail}); restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// No space, or a quota is used up.
    #[error("no space left for the store {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process held the lock for longer than the busy timeout.
    #[error("the store {} stayed locked by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Anything else that SQLite reports.
    #[error("the store {} failed: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// A commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The base is not the current revision any more, or a record is not at the version that was expected.
    #[error("the store changed meanwhile")]
    Conflict,
    /// A unique tag is another record's.
    #[error("a record of kind {} already has one of the tags", .0.0)]
    Taken(Kind),
    /// The caller names a record twice in one commit.
    #[error("one commit changes the record {id:?} of kind {} twice", .kind.0)]
    Repeated {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: RecordId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
