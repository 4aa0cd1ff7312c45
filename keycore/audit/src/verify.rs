//! The verifier and the reader, which need nothing but the files.

#[cfg(test)]
mod tests;

use core::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::chain::{Broken, Chain, Head};
use crate::entry::Entry;
use crate::file::{self, Header, HeaderError};

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
    /// Records; their sequence numbers run from 1 to this.
    pub records: u64,
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
pub fn verify(dir: &Path) -> Result<Report, VerifyError> {
    walk(dir, None, &mut |_| {})
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
    walk(dir, replica, &mut |record| {
        if record.sequence >= from {
            each(record);
        }
    })
}

fn walk(dir: &Path, only: Option<u16>, each: &mut dyn FnMut(&Record<'_>)) -> Result<Report, VerifyError> {
    let failed = |source| VerifyError::Io { path: dir.to_owned(), source };
    let mut replicas = Vec::new();
    for (replica, directory) in file::replica_directories(dir).map_err(failed)? {
        if only.is_none_or(|only| only == replica) {
            replicas.push(walk_replica(replica, &directory, each)?);
        }
    }
    if replicas.is_empty() {
        return Err(VerifyError::Empty(dir.to_owned()));
    }
    Ok(Report { replicas })
}

fn walk_replica(
    replica: u16,
    directory: &Path,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<ReplicaReport, VerifyError> {
    // Asked before reading: an end that is incomplete although nobody was writing is not excused.
    let live = file::is_being_written(directory);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| VerifyError::Io { path, source }
    };
    let segments = file::list(directory).map_err(failed(directory))?;
    let mut chain = Chain::new(replica);
    let mut span_micros = None;
    let mut in_progress = 0;
    for (at, (_, path)) in segments.iter().enumerate() {
        let may_be_growing = live && at + 1 == segments.len();
        let mut file = File::open(path).map_err(failed(path))?;
        let bytes = file::read_whole(&mut file).map_err(failed(path))?;
        let broken = |offset: usize, sequence: u64, wrong: Wrong| {
            Err(VerifyError::Broken { path: path.clone(), offset: offset as u64, sequence, wrong })
        };
        let header = match Header::decode(&bytes) {
            Ok(header) => header,
            Err(HeaderError::Incomplete) if may_be_growing => {
                in_progress = bytes.len();
                continue;
            }
            Err(_) => return broken(0, chain.next, Wrong::Header),
        };
        if header.replica != replica {
            return broken(10, chain.next, Wrong::Header);
        }
        if header.first != chain.next {
            return broken(12, chain.next, Wrong::MissingBefore { found: header.first });
        }
        if header.head != chain.head {
            return broken(20, chain.next, Wrong::NotContinued);
        }
        let mut offset = file::HEADER as usize;
        while offset < bytes.len() {
            let sequence = chain.next;
            match chain.follow(&bytes[offset..]) {
                Ok((entry, length)) => {
                    offset += length;
                    let (first, _) = span_micros.unwrap_or((entry.time_micros, 0));
                    span_micros = Some((first, entry.time_micros));
                    each(&Record { replica, sequence, head: chain.head, entry });
                }
                Err(Broken::Incomplete) if may_be_growing => {
                    in_progress = bytes.len() - offset;
                    break;
                }
                Err(wrong) => return broken(offset, sequence, wrong.into()),
            }
        }
    }
    let records = chain.next - 1;
    Ok(ReplicaReport {
        replica,
        segments: segments.len(),
        records,
        head: chain.head,
        span_micros,
        in_progress,
    })
}
