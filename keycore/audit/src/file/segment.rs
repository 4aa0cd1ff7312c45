//! Names and headers of segments.

use std::io;
use std::path::{Path, PathBuf};

use crate::chain::{Chain, Head};

/// Length of a header in bytes.
pub(crate) const HEADER: u64 = 56;

const MAGIC: [u8; 8] = *b"HSMAUDIT";
const FORMAT: u16 = 2;

/// What a segment begins with: where it stands in the log.
///
/// ```text
/// 0       8        10        12     16               24            56
/// | magic | format | replica | boot | first sequence | head before |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) replica: u16,
    /// How many times the replica had started when its first record was written.
    pub(crate) boot: u32,
    pub(crate) first: u64,
    pub(crate) head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Incomplete,
    NotALog,
    Format(u16),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_be_bytes());
        bytes[10..12].copy_from_slice(&self.replica.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.boot.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_be_bytes());
        bytes[24..].copy_from_slice(&self.head.0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (magic, rest) = bytes.split_first_chunk().ok_or(HeaderError::Incomplete)?;
        let (format, rest) = rest.split_first_chunk().ok_or(HeaderError::Incomplete)?;
        let (replica, rest) = rest.split_first_chunk().ok_or(HeaderError::Incomplete)?;
        let (boot, rest) = rest.split_first_chunk().ok_or(HeaderError::Incomplete)?;
        let (first, rest) = rest.split_first_chunk().ok_or(HeaderError::Incomplete)?;
        let (head, _) = rest.split_first_chunk().ok_or(HeaderError::Incomplete)?;
        if *magic != MAGIC {
            return Err(HeaderError::NotALog);
        }
        match u16::from_be_bytes(*format) {
            FORMAT => Ok(Self {
                replica: u16::from_be_bytes(*replica),
                boot: u32::from_be_bytes(*boot),
                first: u64::from_be_bytes(*first),
                head: Head(*head),
            }),
            other => Err(HeaderError::Format(other)),
        }
    }

    /// The chain before the segment's first record.
    pub(crate) fn chain(&self) -> Chain {
        Chain { next: self.first, head: self.head, boot: self.boot }
    }
}

pub(crate) fn replica_directory(dir: &Path, replica: u16) -> PathBuf {
    dir.join(format!("engine-{replica}"))
}

/// The logs under `dir`, by replica.
pub(crate) fn replica_directories(dir: &Path) -> io::Result<Vec<(u16, PathBuf)>> {
    let mut found = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix("engine-")?.parse().ok());
        if let Some(replica) = number
            && path == replica_directory(dir, replica)
        {
            found.push((replica, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub(super) fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

/// The segments of a replica, with the first sequence number that each name tells, in order.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let first = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        if let Some(first) = first
            && path == self::path(directory, first)
        {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}
