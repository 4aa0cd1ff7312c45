//! Which old segments are taken away.

use core::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use crate::chain::{self, Head};
use crate::entry::Subject;
use crate::file::segment::{self, HEADER, Header};

/// How much of a log is kept. Whole segments are taken away, so somewhat more is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Records that are older may go; none do for their age without it.
    pub age: Option<Duration>,
    /// Bytes of all segments above which the oldest may go; none do for their size without it.
    pub bytes: Option<u64>,
}

/// The segments that need not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlived {
    /// The first record that is kept, a checkpoint.
    pub first_kept: u64,
    /// The head before it.
    pub head: Head,
    /// How many segments go.
    pub segments: usize,
    /// Their length, in bytes.
    pub bytes: u64,
}

impl fmt::Display for Outlived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first_kept, head, segments, bytes } = self;
        write!(
            f,
            "kept from record {first_kept}, head before it {head}; removes {segments} segments, {bytes} bytes"
        )
    }
}

/// Looks for segments that may go: those that end at a checkpoint and that the anchor, whose last record is `anchored`, covers.
pub(super) fn outlived(
    directory: &Path,
    keep: &Retention,
    now_micros: u64,
    anchored: u64,
) -> io::Result<Option<Outlived>> {
    if *keep == Retention::default() {
        return Ok(None);
    }
    let segments = segment::list(directory)?;
    let mut sizes = Vec::with_capacity(segments.len());
    for (_, path) in &segments {
        sizes.push(path.metadata()?.len());
    }
    let mut rest: u64 = sizes.iter().sum();
    let (mut bytes, mut found) = (0, None);
    for (n, (first, path)) in segments.iter().enumerate().skip(1) {
        if first - 1 > anchored {
            break;
        }
        let too_much = keep.bytes.is_some_and(|most| rest > most);
        bytes += sizes[n - 1];
        rest -= sizes[n - 1];
        // Without a checkpoint nothing vouches for what lay before it: what is left can't begin here.
        let Some((head, begun_micros)) = checkpoint_at_start(path)? else { continue };
        let age = Duration::from_micros(now_micros.saturating_sub(begun_micros));
        if !too_much && keep.age.is_none_or(|most| age <= most) {
            break;
        }
        found = Some(Outlived { first_kept: *first, head, segments: n, bytes });
    }
    Ok(found)
}

/// Takes away what lies before the segment that begins with `first`, the oldest first: a crash in between leaves no gap.
pub(super) fn remove_before(directory: &Path, first: u64) -> io::Result<()> {
    for (number, path) in segment::list(directory)? {
        if number < first {
            fs::remove_file(path)?;
        }
    }
    File::open(directory)?.sync_all()
}

/// The head before a segment, and the time at which it was begun, if it begins with a checkpoint.
fn checkpoint_at_start(path: &Path) -> io::Result<Option<(Head, u64)>> {
    let longest = HEADER as usize + chain::MAX_BODY + chain::OVERHEAD;
    let mut bytes = Vec::with_capacity(longest);
    File::open(path)?.take(longest as u64).read_to_end(&mut bytes)?;
    let Ok(header) = Header::decode(&bytes) else { return Ok(None) };
    let mut chain = header.chain();
    let Ok((entry, _)) = chain.follow(&bytes[HEADER as usize..]) else { return Ok(None) };
    let is_checkpoint = matches!(entry.subject, Subject::Checkpoint { .. });
    Ok(is_checkpoint.then_some((header.head, entry.time_micros)))
}

#[cfg(test)]
mod tests;
