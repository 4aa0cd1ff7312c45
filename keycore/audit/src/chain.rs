//! The chain, and the bytes of one record.
//!
//! ```text
//! 0        4            4 + length   36 + length
//! | length | body …     | head       |
//! ```
//!
//! `length` is big-endian and counts the body: the sequence number, the boot counter and the entry, in postcard. The head is
//! SHA-256(head of the record before ‖ body).

use core::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::entry::Entry;

/// Longest body, in bytes. An entry with all its texts at their limits has about 1,700.
pub(crate) const MAX_BODY: usize = 4096;

/// Bytes of a record besides its body.
pub(crate) const OVERHEAD: usize = 4 + 32;

/// The head of a chain: what stands for all records so far. Write it down elsewhere, and nobody can take a record
/// away unnoticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head(pub [u8; 32]);

impl Head {
    /// The head before the first record of a replica's log.
    pub fn genesis(replica: u16) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(b"keycore audit log, format 2, replica ");
        hash.update(&replica.to_be_bytes());
        Self::from_context(hash)
    }

    /// The head after a record.
    pub(crate) fn after(self, body: &[u8]) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(&self.0);
        hash.update(body);
        Self::from_context(hash)
    }

    fn from_context(hash: Context) -> Self {
        let mut head = [0; 32];
        head.copy_from_slice(hash.finish().as_ref());
        Self(head)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({self})")
    }
}

/// Where a log stands: the next sequence number, and the head of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Sequence number of the next record; the first one is 1.
    pub next: u64,
    /// Head of the records so far.
    pub head: Head,
    /// How many times the replica had started when the last of them was written; 0 before the first.
    pub boot: u32,
}

impl Chain {
    /// The empty log of a replica.
    pub fn new(replica: u16) -> Self {
        Self { next: 1, head: Head::genesis(replica), boot: 0 }
    }

    /// Appends the record of an entry to `out`, and moves on.
    ///
    /// # Errors
    ///
    /// [`postcard::Error`] if the entry can't be encoded; `out` and the chain are then as before.
    pub(crate) fn append(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
        let body = Body { sequence: self.next, boot: self.boot, entry: entry.bounded() };
        let mut buffer = [0; MAX_BODY];
        let body: &[u8] = postcard::to_slice(&body, &mut buffer)?;
        let length = u32::try_from(body.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
        self.head = self.head.after(body);
        self.next += 1;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(&self.head.0);
        Ok(())
    }

    /// Reads the record that continues this chain from the beginning of `bytes`; moves on and returns its entry and
    /// its length.
    pub(crate) fn follow<'a>(&mut self, bytes: &'a [u8]) -> Result<(Entry<'a>, usize), Broken> {
        let (body, stored) = parse(bytes)?;
        let head = self.head.after(body);
        if head != stored {
            return Err(Broken::Hash);
        }
        let (body_read, rest) =
            postcard::take_from_bytes::<Body<'_>>(body).map_err(|_| Broken::Undecodable)?;
        if !rest.is_empty() {
            return Err(Broken::Undecodable);
        }
        if body_read.sequence != self.next {
            return Err(Broken::Sequence(body_read.sequence));
        }
        // No log gets there; who forges one may claim it.
        let next = self.next.checked_add(1).ok_or(Broken::Sequence(self.next))?;
        *self = Self { next, head, boot: body_read.boot };
        Ok((body_read.entry, body.len() + OVERHEAD))
    }
}

/// What a body holds.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    sequence: u64,
    boot: u32,
    #[serde(borrow)]
    entry: Entry<'a>,
}

/// Why bytes are not the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They end too early.
    Incomplete,
    /// The length is out of bounds.
    Length(u32),
    /// The hash does not fit the record and the one before it.
    Hash,
    /// The hash fits, the content is of another format.
    Undecodable,
    /// The hash fits, the number does not.
    Sequence(u64),
}

/// The body and the stored head of the record at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Result<(&[u8], Head), Broken> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Broken::Incomplete)?;
    let length = u32::from_be_bytes(*length);
    let body_len = length as usize;
    if body_len == 0 || body_len > MAX_BODY {
        return Err(Broken::Length(length));
    }
    let (body, rest) = rest.split_at_checked(body_len).ok_or(Broken::Incomplete)?;
    let (head, _) = rest.split_first_chunk::<32>().ok_or(Broken::Incomplete)?;
    Ok((body, Head(*head)))
}

/// The entry of a whole record, unverified.
pub(crate) fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (body, _) = parse(bytes).ok()?;
    postcard::from_bytes::<Body<'_>>(body).ok().map(|body| body.entry)
}

/// The sequence number and the boot counter that a record claims, unverified: for naming files and their headers.
pub(crate) fn claimed(bytes: &[u8]) -> Option<(u64, u32)> {
    let (body, _) = parse(bytes).ok()?;
    postcard::take_from_bytes(body).ok().map(|(claimed, _)| claimed)
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => f.write_str("incomplete"),
            Self::Length(length) => write!(f, "a length of {length} bytes, {MAX_BODY} at most are possible"),
            Self::Hash => f.write_str("the hash does not fit the record and the one before it"),
            Self::Undecodable => f.write_str("the content is not a record of this format"),
            Self::Sequence(sequence) => write!(f, "it claims to be record {sequence}"),
        }
    }
}
