//! Segment files in a directory: `<dir>/engine-<replica>/<first sequence, 20 digits>.log`.
//!
//! A segment begins with a header (magic, format, replica, first sequence, head before it) and holds whole records.
//! One process writes the log of a replica: it holds a lock on the file `lock` beside the segments.

mod recover;
mod retention;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::chain::{self, Chain, Head};
use crate::log::{Past, Sink};

pub use retention::{Outlived, Retention};
pub(crate) use segment::{HEADER, Header, HeaderError, list, replica_directories, replica_directory};

/// Longest segment, in bytes; a new one is begun rather than exceed it. Only without checkpoints does one become so long.
const MAX_SEGMENT: u64 = 256 << 20;

/// Length from which on a checkpoint begins a new segment: what is taken away later ends at a signature.
const ROTATE_AT: u64 = 64 << 20;

/// Age from which on it does.
const ROTATE_AFTER: Duration = Duration::from_hours(24);

/// How long opening waits for the lock: a verifier takes it for a moment to see whether an engine runs, and a killed
/// engine keeps it until the kernel has cleaned up.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// The log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("can't open the audit log {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process writes this replica's log.
    #[error("the audit log {} is in use by another engine", .0.display())]
    InUse(PathBuf),
    /// The last segment was changed, not just cut short.
    #[error(
        "the audit log {} is damaged at byte {offset}: {detail}; move its directory away to keep it as evidence, \
         and start again",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What does not fit.
        detail: String,
    },
}

/// What opening found at the end of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// An incomplete end that a crash left; it was cut off.
    pub cut: Option<Cut>,
}

/// An incomplete end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment that it was cut from.
    pub segment: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Where the bytes were put.
    pub kept_in: PathBuf,
}

/// Opens the log of a replica under `dir`, and makes it if it is not there.
///
/// Only the last segment is read. An end that a crash left incomplete is cut off, kept beside the segment as
/// `….torn`, and reported.
///
/// # Errors
///
/// [`OpenError`]; nothing was changed unless it says otherwise.
pub fn open(dir: &Path, replica: u16) -> Result<(Chain, FileSink, Recovery), OpenError> {
    open_with(dir, replica, Sizes { rotate_at: ROTATE_AT, max_segment: MAX_SEGMENT })
}

/// How long segments become, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rotate_at: u64,
    pub(crate) max_segment: u64,
}

pub(crate) fn open_with(
    dir: &Path,
    replica: u16,
    sizes: Sizes,
) -> Result<(Chain, FileSink, Recovery), OpenError> {
    let directory = replica_directory(dir, replica);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed(&directory))?;
    // A record is no more durable than the names of the directories that it is in.
    for parent in directory.ancestors().skip(1).take(2) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed(parent))?;
    }
    let lock_path = directory.join("lock");
    let lock = private().create(true).truncate(false).open(&lock_path).map_err(failed(&lock_path))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(directory)),
            Err(TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
        }
    }
    let (chain, current, recovery) = recover::recover(&directory, replica)?;
    let sink = FileSink { directory, replica, sizes, current, head: chain.head, lock };
    Ok((chain, sink, recovery))
}

/// Segments on disk.
pub struct FileSink {
    directory: PathBuf,
    replica: u16,
    sizes: Sizes,
    /// None before the first record.
    current: Option<Current>,
    /// Head of what was written.
    head: Head,
    /// Locked for as long as it is open.
    #[expect(dead_code, reason = "held for its lock")]
    lock: File,
}

/// The segment that is being written.
struct Current {
    file: File,
    /// Where the next record goes. What lies behind it is of a write that failed, and is written over.
    end: u64,
    /// When it was begun or opened, by the clock of this process.
    since: Instant,
    /// What is known to be durable, and the head there.
    synced: (u64, Head),
    /// The last fdatasync failed, so the kernel may have dropped what it could not write.
    suspect: bool,
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let full = match &self.current {
            Some(current) => {
                current.end > HEADER && current.end + bytes.len() as u64 > self.sizes.max_segment
            }
            None => true,
        };
        if full {
            // The segments before the last one are complete and durable: recovery reads only the last.
            self.sync()?;
            let (first, boot) = chain::claimed(bytes).ok_or_else(not_a_record)?;
            self.current = Some(self.begin_segment(first, boot)?);
        }
        let head = last_head(bytes)?;
        let Some(current) = &mut self.current else { unreachable!("begun above") };
        current.file.write_all_at(bytes, current.end)?;
        current.end += bytes.len() as u64;
        self.head = head;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.suspect {
            current.write_again(self.head)?;
        }
        // Cut off what a failed write left behind the last record.
        if current.file.metadata()?.len() > current.end {
            current.file.set_len(current.end)?;
        }
        let synced = current.file.sync_data();
        current.suspect = synced.is_err();
        synced?;
        current.synced = (current.end, self.head);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let due = self.current.as_ref().is_some_and(|current| {
            current.end >= self.sizes.rotate_at
                || (current.end > HEADER && current.since.elapsed() >= ROTATE_AFTER)
        });
        if due {
            self.sync()?;
            // The next write begins the segment: a file without a record would have no number yet.
            self.current = None;
        }
        Ok(())
    }

    fn head_at(&mut self, sequence: u64) -> io::Result<Past> {
        let segments = list(&self.directory)?;
        let holding = segments.iter().rev().find(|(first, _)| *first <= sequence + 1);
        let Some((_, path)) = holding else { return Ok(Past::Unknown) };
        let bytes = fs::read(path)?;
        let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let header =
            Header::decode(&bytes).map_err(|error| damaged(format!("{}: {error:?}", path.display())))?;
        let (mut chain, mut at) = (header.chain(), HEADER as usize);
        while chain.next <= sequence && at < bytes.len() {
            let (_, length) = chain.follow(&bytes[at..]).map_err(|broken| {
                damaged(format!("{} at byte {at}, record {}: {broken}", path.display(), chain.next))
            })?;
            at += length;
        }
        Ok(if chain.next == sequence + 1 { Past::Was(chain.head) } else { Past::Future })
    }

    fn outlived(&mut self, keep: &Retention, now_micros: u64, anchored: u64) -> io::Result<Option<Outlived>> {
        retention::outlived(&self.directory, keep, now_micros, anchored)
    }

    fn remove_before(&mut self, first: u64) -> io::Result<()> {
        retention::remove_before(&self.directory, first)
    }
}

impl FileSink {
    fn begin_segment(&self, first: u64, boot: u32) -> io::Result<Current> {
        let path = segment::path(&self.directory, first);
        // Truncated rather than exclusive: an attempt that failed half-way may have left the file.
        let file = private().create(true).truncate(true).open(&path)?;
        let header = Header { replica: self.replica, boot, first, head: self.head };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        File::open(&self.directory)?.sync_all()?;
        Ok(Current { file, end: HEADER, since: Instant::now(), synced: (HEADER, self.head), suspect: false })
    }
}

impl Current {
    /// After a failed fdatasync the kernel counts pages as clean that never reached the disk. What was written since
    /// the last good one is read back, checked against the chain, and written once more.
    fn write_again(&mut self, head: Head) -> io::Result<()> {
        let (from, mut reached) = self.synced;
        let mut bytes = vec![0; usize::try_from(self.end - from).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, from)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (body, _) = chain::parse(rest).map_err(|_| lost())?;
            reached = reached.after(body);
            rest = &rest[body.len() + chain::OVERHEAD..];
        }
        if reached != head {
            return Err(lost());
        }
        self.file.write_all_at(&bytes, from)
    }
}

/// The head that the last record of a batch carries.
fn last_head(batch: &[u8]) -> io::Result<Head> {
    batch.last_chunk().map(|head| Head(*head)).ok_or_else(not_a_record)
}

fn not_a_record() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a batch of audit records")
}

fn lost() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the disk lost audit records that were written; restart the engine",
    )
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Reads a whole file that may still be growing.
pub(crate) fn read_whole(file: &mut File) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a process writes the log of this replica now.
pub(crate) fn is_being_written(directory: &Path) -> bool {
    File::open(directory.join("lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
