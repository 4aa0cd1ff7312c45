//! The verifier and the reader, which need nothing but the files.

#[cfg(test)]
mod tampering_tests;
#[cfg(test)]
mod tests;

use core::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use keycore_wire::AuditAnchor;

use crate::chain::{Broken, Chain, Head};
use crate::checkpoint::AuditKey;
use crate::entry::{Entry, Subject};
use crate::file::{self, Header, HeaderError};

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
    let failed = |source| VerifyError::Io { path: dir.to_owned(), source };
    let mut replicas = Vec::new();
    for (replica, directory) in file::replica_directories(dir).map_err(failed)? {
        if only.is_none_or(|only| only == replica) {
            replicas.push(Walk::new(replica, &directory, trust).run(each)?);
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

/// The way through the log of one replica.
struct Walk<'a> {
    replica: u16,
    directory: &'a Path,
    key: Option<AuditKey>,
    anchor: Option<&'a AuditAnchor>,
    chain: Chain,
    report: ReplicaReport,
}

impl<'a> Walk<'a> {
    fn new(replica: u16, directory: &'a Path, trust: Trust<'a>) -> Self {
        let chain = Chain::new(replica);
        let report = ReplicaReport {
            replica,
            segments: 0,
            first: 1,
            records: 0,
            boot: 0,
            checkpoints: 0,
            signed_to: 0,
            head: chain.head,
            span_micros: None,
            in_progress: 0,
        };
        let anchor = trust.anchors.iter().find(|anchor| anchor.replica == replica);
        Self { replica, directory, key: trust.key, anchor, chain, report }
    }

    fn run(mut self, each: &mut dyn FnMut(&Record<'_>)) -> Result<ReplicaReport, VerifyError> {
        // Asked before reading: an end that is incomplete although nobody was writing is not excused.
        let live = file::is_being_written(self.directory);
        let segments = file::list(self.directory)
            .map_err(|source| VerifyError::Io { path: self.directory.to_owned(), source })?;
        self.report.segments = segments.len();
        for (at, (_, path)) in segments.iter().enumerate() {
            let failed = |source| VerifyError::Io { path: path.clone(), source };
            let mut file = File::open(path).map_err(failed)?;
            let bytes = file::read_whole(&mut file).map_err(failed)?;
            let may_be_growing = live && at + 1 == segments.len();
            self.segment(&bytes, at == 0, may_be_growing, each).map_err(|(offset, wrong)| {
                let offset = offset as u64;
                VerifyError::Broken { path: path.clone(), offset, sequence: self.chain.next, wrong }
            })?;
        }
        self.report.records = self.chain.next - self.report.first;
        self.report.boot = self.chain.boot;
        self.report.head = self.chain.head;
        match self.anchor {
            Some(anchor) if anchor.sequence >= self.chain.next => {
                let path =
                    segments.last().map_or_else(|| self.directory.to_owned(), |(_, path)| path.clone());
                let offset = path.metadata().map_or(0, |metadata| metadata.len());
                let wrong = Wrong::RolledBack { anchor: anchor.sequence };
                Err(VerifyError::Broken { path, offset, sequence: self.chain.next, wrong })
            }
            _ => Ok(self.report),
        }
    }

    /// Goes through one segment; on an error the chain stands before the record that is wrong.
    fn segment(
        &mut self,
        bytes: &[u8],
        is_first: bool,
        may_be_growing: bool,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), (usize, Wrong)> {
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(HeaderError::Incomplete) if may_be_growing => {
                self.report.in_progress = bytes.len();
                return Ok(());
            }
            Err(_) => return Err((0, Wrong::Header)),
        };
        if header.replica != self.replica {
            return Err((10, Wrong::Header));
        }
        let pruned = is_first && header.first > 1;
        if pruned {
            // Its head is vouched for by the first record, if that is a checkpoint.
            self.chain = header.chain();
            self.report.first = header.first;
        }
        if header.first != self.chain.next {
            return Err((16, Wrong::MissingBefore { found: header.first }));
        }
        if header.head != self.chain.head {
            return Err((24, Wrong::NotContinued));
        }
        let mut offset = file::HEADER as usize;
        if pruned && offset == bytes.len() {
            return Err((offset, Wrong::NoCheckpoint));
        }
        while offset < bytes.len() {
            let before = self.chain;
            match self.chain.follow(&bytes[offset..]) {
                Ok((entry, length)) => {
                    if before.next == header.first && self.chain.boot != header.boot {
                        self.chain = before;
                        return Err((12, Wrong::Header));
                    }
                    if let Err(wrong) = self.held_against(before, &entry, pruned) {
                        self.chain = before;
                        return Err((offset, wrong));
                    }
                    offset += length;
                    let (first, _) = self.report.span_micros.unwrap_or((entry.time_micros, 0));
                    self.report.span_micros = Some((first, entry.time_micros));
                    let Chain { boot, head, .. } = self.chain;
                    each(&Record { replica: self.replica, sequence: before.next, boot, head, entry });
                }
                Err(Broken::Incomplete) if may_be_growing => {
                    self.report.in_progress = bytes.len() - offset;
                    break;
                }
                Err(wrong) => return Err((offset, wrong.into())),
            }
        }
        Ok(())
    }

    /// Holds a record whose hash fits against what is known besides the log. `before` is the chain before it.
    fn held_against(&mut self, before: Chain, entry: &Entry<'_>, pruned: bool) -> Result<(), Wrong> {
        if let Subject::Checkpoint { cluster, signature } = &entry.subject {
            let signed = AuditAnchor {
                replica: self.replica,
                boot: self.chain.boot,
                at_micros: entry.time_micros,
                sequence: before.next - 1,
                head: before.head.0,
                signature: signature.to_vec(),
            };
            if self.key.is_some_and(|key| !key.signed(*cluster, &signed)) {
                return Err(Wrong::Signature);
            }
            self.report.checkpoints += 1;
            self.report.signed_to = before.next - 1;
        } else if pruned && before.next == self.report.first {
            return Err(Wrong::NoCheckpoint);
        }
        let known = |at: Chain| {
            self.anchor.filter(|anchor| anchor.sequence == at.next - 1).is_none_or(|it| it.head == at.head.0)
        };
        if known(before) && known(self.chain) { Ok(()) } else { Err(Wrong::NotAnchored) }
    }
}
