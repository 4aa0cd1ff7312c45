//! The verifier, which needs nothing but the files.

#[cfg(test)]
mod tampering_tests;
#[cfg(test)]
mod tests;

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use keycore_wire::AuditAnchor;

use crate::chain::{Broken, Head};
use crate::checkpoint::AuditKey;
use crate::entry::Entry;
use crate::file;
use crate::pairing::{Changes, Pairing};
use crate::reader::Reader;

/// What a log is held against besides itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// The cluster's audit key: every checkpoint must be signed by it.
    pub key: Option<AuditKey>,
    /// Where replicas' logs are known to have stood: each log must lead through its anchor. Those of replicas without a log count
    /// as logs that were taken away.
    pub anchors: &'a [AuditAnchor],
}

/// What a whole log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One for each replica, by number.
    pub replicas: Vec<ReplicaReport>,
}

impl Report {
    /// Records of all replicas.
    pub fn records(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.records).sum()
    }
}

/// What the log of one replica holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaReport {
    /// The replica.
    pub replica: u16,
    /// Segment files.
    pub segments: usize,
    /// Number of the first record that is there; above 1 if older segments were taken away behind a checkpoint.
    pub first: u64,
    /// Records that are there; numbered from `first` on, without a gap.
    pub records: u64,
    /// How many times the replica had started when the last one was written.
    pub boot: u32,
    /// Checkpoints among them, whose signatures are good if a key was given to check them by.
    pub checkpoints: u64,
    /// Last record that a checkpoint covers; what comes behind it only the chain holds together.
    pub signed_to: u64,
    /// Head of the chain: keep it elsewhere to prove later that nothing was cut off.
    pub head: Head,
    /// Times of the first and of the last record, in microseconds since 1970-01-01T00:00:00Z.
    pub span_micros: Option<(u64, u64)>,
    /// Bytes of a record that the running engine is writing just now.
    pub in_progress: usize,
    /// Changes, and those without a record of how they ended.
    pub changes: Changes,
}

/// One record, as it is read back.
#[derive(Debug)]
pub struct Record<'a> {
    /// Whose log it is in.
    pub replica: u16,
    /// Its number there, from 1.
    pub sequence: u64,
    /// How many times the replica had started.
    pub boot: u32,
    /// The chain's head after it.
    pub head: Head,
    /// What it says.
    pub entry: Entry<'a>,
}

/// The log is not what an engine wrote, or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The operating system refused.
    #[error("can't read {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no log.
    #[error("no audit log in {}", .0.display())]
    Empty(PathBuf),
    /// Something was changed, taken away or cut off.
    #[error("{} at byte {offset}, record {sequence}: {wrong}", path.display())]
    Broken {
        /// The segment.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// The record that should be there.
        sequence: u64,
        /// What is wrong.
        wrong: Wrong,
    },
}

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Not the beginning of a segment of this format and replica.
    Header,
    /// A segment is missing, or the records at the end of the one before: this one begins with another number.
    MissingBefore {
        /// The number that it begins with.
        found: u64,
    },
    /// The segment does not continue the one before it.
    NotContinued,
    /// A record ends before its length: the end was cut off, or a crash left it so (an engine that starts sets
    /// such an end aside and says so).
    Truncated,
    /// A length that no record has.
    Length(u32),
    /// The hash fits neither: a bit was changed, or a record was taken out, put in or moved.
    Hash,
    /// A record of another format.
    Undecodable,
    /// A record with another number.
    Sequence(u64),
    /// A checkpoint that the given key did not sign: another cluster's, or forged.
    Signature,
    /// The log does not begin with record 1, and not with a checkpoint either: nothing vouches for what lay before it.
    NoCheckpoint,
    /// The log ends here, and is known to have been longer: it was cut off or put back.
    RolledBack {
        /// Number of the record that it once had.
        anchor: u64,
    },
    /// The record is another one than the log is known to have had here.
    NotAnchored,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("not the header of a segment of this replica"),
            Self::MissingBefore { found } => write!(f, "records are missing: this segment begins with {found}"),
            Self::NotContinued => f.write_str("this segment does not continue the one before it"),
            Self::Truncated => f.write_str(
                "the record is cut short; if the engine crashed, its next start sets the incomplete end aside",
            ),
            Self::Length(length) => Broken::Length(*length).fmt(f),
            Self::Hash => f.write_str("changed, or a record before it was changed, taken out, put in or moved"),
            Self::Undecodable => Broken::Undecodable.fmt(f),
            Self::Sequence(found) => Broken::Sequence(*found).fmt(f),
            Self::Signature => f.write_str(
                "the checkpoint is not signed by the given audit key: another cluster's log, or written anew",
            ),
            Self::NoCheckpoint => f.write_str(
                "the log begins here, not with record 1 and not with a checkpoint: records before it are missing",
            ),
            Self::RolledBack { anchor } => write!(
                f,
                "the log ends before it, and had {anchor} records at its anchor: cut off, or put back to an earlier state"
            ),
            Self::NotAnchored => {
                f.write_str("the log leads to another head than its anchor here: it was written anew")
            }
        }
    }
}

impl From<Broken> for Wrong {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Incomplete => Self::Truncated,
            Broken::Length(length) => Self::Length(length),
            Broken::Hash => Self::Hash,
            Broken::Undecodable => Self::Undecodable,
            Broken::Sequence(found) => Self::Sequence(found),
        }
    }
}

/// Checks every record of every replica's log under `dir`. Engines may be writing meanwhile.
///
/// # Errors
///
/// [`VerifyError`] names the first thing that is wrong.
pub fn verify(dir: &Path, trust: Trust<'_>) -> Result<Report, VerifyError> {
    walk(dir, None, trust, &mut |_| {})
}

/// Gives every record from the sequence number `from` on, of one replica or of each in turn, to `each`; checks the
/// chain on the way like [`verify`], so a record is given only if everything before it holds.
///
/// # Errors
///
/// [`VerifyError`] names the first thing that is wrong.
pub fn read(
    dir: &Path,
    replica: Option<u16>,
    from: u64,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<Report, VerifyError> {
    walk(dir, replica, Trust::default(), &mut |record| {
        if record.sequence >= from {
            each(record);
        }
    })
}

fn walk(
    dir: &Path,
    only: Option<u16>,
    trust: Trust<'_>,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<Report, VerifyError> {
    let mut replicas = Vec::new();
    for replica in replicas_in(dir)? {
        if only.is_none_or(|only| only == replica) {
            let mut reader = Reader::new(dir, replica, trust);
            let mut pairing = Pairing::default();
            while let Some(record) = reader.next()? {
                pairing.observe(&record);
                each(&record);
            }
            let live = file::is_being_written(&file::replica_directory(dir, replica));
            replicas.push(ReplicaReport { changes: pairing.finish(live), ..reader.finish()? });
        }
    }
    if replicas.is_empty() {
        return Err(VerifyError::Empty(dir.to_owned()));
    }
    let missing = |anchor: &&AuditAnchor| {
        anchor.sequence > 0 && !replicas.iter().any(|report| report.replica == anchor.replica)
    };
    if let Some(anchor) = trust.anchors.iter().find(missing).filter(|_| only.is_none()) {
        let wrong = Wrong::RolledBack { anchor: anchor.sequence };
        let path = file::replica_directory(dir, anchor.replica);
        return Err(VerifyError::Broken { path, offset: 0, sequence: 1, wrong });
    }
    Ok(Report { replicas })
}

/// The replicas that have a log under `dir`, by number.
///
/// # Errors
///
/// [`VerifyError::Io`] if the directory can't be read.
pub fn replicas_in(dir: &Path) -> Result<Vec<u16>, VerifyError> {
    let found =
        file::replica_directories(dir).map_err(|source| VerifyError::Io { path: dir.to_owned(), source })?;
    Ok(found.into_iter().map(|(replica, _)| replica).collect())
}
