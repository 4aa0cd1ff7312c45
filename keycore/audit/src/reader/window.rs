//! A file that may be growing, a piece at a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::chain;

/// Bytes that are kept in memory.
const CAPACITY: usize = 64 << 10;

pub(super) struct Window {
    file: File,
    buffer: Vec<u8>,
    /// Where the rest begins in the buffer.
    at: usize,
    /// Where it begins in the file.
    offset: u64,
}

impl Window {
    /// A rest of this length has a whole record, if it has one at all.
    pub(super) const MARGIN: usize = chain::MAX_BODY + chain::OVERHEAD;

    pub(super) fn new(file: File) -> Self {
        Self { file, buffer: Vec::with_capacity(CAPACITY), at: 0, offset: 0 }
    }

    /// What was read and not passed.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Where the rest begins, in bytes from the beginning of the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Passes `length` bytes of the rest.
    pub(super) fn advance(&mut self, length: usize) {
        self.at += length;
        self.offset += length as u64;
    }

    /// Reads on from the rest. That is read anew: an incomplete end may have been set aside and written over meanwhile.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        self.at = 0;
        self.buffer.clear();
        self.file.seek(SeekFrom::Start(self.offset))?;
        Read::by_ref(&mut self.file).take(CAPACITY as u64).read_to_end(&mut self.buffer)?;
        Ok(())
    }
}
