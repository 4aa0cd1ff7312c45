use keycore_audit::AuditError;
use keycore_store::StoreError;

use crate::cluster::UnsealError;
use crate::ledger::LoadError;
use crate::notary::RolledBack;

/// The engine can't start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster can't be opened.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// Records of users or sessions don't open.
    #[error("{0}; restore the store from a backup")]
    Damaged(String),
    /// The audit log is not the one that was anchored in the store.
    #[error(transparent)]
    AuditRolledBack(RolledBack),
}

/// The changes of the siblings could not be brought in. What could be, is; the next call goes on.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The store can't be read: the engine goes on with what it knows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is older than it was: what was deleted or changed since would be back.
    #[error(
        "the store is at revision {found} and was at {known}: it was put back to an earlier state; if that was you, \
         start the engine anew"
    )]
    PutBack {
        /// The revision that the engine has seen.
        known: u64,
        /// The revision that the store has now.
        found: u64,
    },
    /// The record of the cluster key is older than it was: a generation that was dropped would be back.
    #[error(
        "the store's record of the cluster key is older than generation {known}, which this engine has: it was put back; \
         if that was you, start the engine anew"
    )]
    ClusterKeyPutBack {
        /// The newest generation that the engine has.
        known: u32,
    },
    /// A sibling initialized the cluster, and this engine can't open it.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The audit log can't be held against what it was anchored with; until then nothing is unsealed.
    #[error("the audit log can't be held against its anchor: {0}")]
    Audit(#[from] AuditError),
    /// Changed records don't open; their users and sessions are shut out.
    #[error("{0}; restore the store from a backup")]
    Damaged(String),
}

impl From<LoadError> for FollowError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => Self::Store(error),
            LoadError::Damaged(what) => Self::Damaged(what),
        }
    }
}
