//! The writer: chain, bounded buffer, and what happens when the disk is full.

use std::io;

use crate::chain::{Chain, Head};
use crate::entry::Entry;

/// Bytes that are kept in memory at most, before they are handed to the sink.
const BUFFER: usize = 1 << 20;

/// Where records go.
pub trait Sink: Send {
    /// Appends whole records. On an error the sink must be as if nothing had been written: the same bytes come again.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// What the operating system says. It will be called again.
    fn sync(&mut self) -> io::Result<()>;
}

/// The log can't take records.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The sink failed just now.
    #[error("the audit log can't be written: {0}")]
    Sink(#[source] io::Error),
    /// The sink failed before and has not recovered.
    #[error("the audit log can't be written since an earlier failure ({0})")]
    Failed(io::ErrorKind),
    /// The entry can't be encoded: a fault of the program.
    #[error("an audit entry can't be encoded")]
    Entry,
}

/// The log of one replica.
///
/// Entries are chained and buffered as they come; [`flush`](Self::flush) hands them over. After a failure no entry is taken
/// (so nothing more is done that could not be recorded) until a flush succeeds; the entries taken before are kept,
/// in order, and go first.
pub struct Log {
    chain: Chain,
    buffer: Vec<u8>,
    sink: Box<dyn Sink>,
    unsynced: bool,
    sync_failed: bool,
    failed: Option<io::ErrorKind>,
}

impl Log {
    /// A log that goes on where `chain` stands; `sink` must hold the records up to there.
    pub fn new(chain: Chain, sink: Box<dyn Sink>) -> Self {
        Self {
            chain,
            buffer: Vec::with_capacity(BUFFER),
            sink,
            unsynced: false,
            sync_failed: false,
            failed: None,
        }
    }

    /// Takes an entry. Costs about a microsecond, unless the buffer is full and has to be flushed first.
    ///
    /// # Errors
    ///
    /// [`AuditError`] if the log has failed and not recovered: the entry was not taken, so what it tells must not
    /// be done. Once a failure is known this is as cheap as a success: only `flush` and `sync` try again.
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<(), AuditError> {
        if let Some(kind) = self.failed {
            return Err(AuditError::Failed(kind));
        }
        if self.buffer.len() + crate::chain::MAX_BODY + crate::chain::OVERHEAD > BUFFER {
            self.flush()?;
        }
        self.chain.append(entry, &mut self.buffer).map_err(|_| AuditError::Entry)
    }

    /// Hands what is buffered to the sink. A process that is killed after this loses nothing; a machine may.
    ///
    /// # Errors
    ///
    /// [`AuditError::Sink`]; what is buffered stays, and the next flush tries again.
    pub fn flush(&mut self) -> Result<(), AuditError> {
        if !self.buffer.is_empty() {
            let written = self.sink.write(&self.buffer);
            self.note(written)?;
            self.buffer.clear();
            self.unsynced = true;
        }
        // Records that were written but could not be made durable keep the log failed.
        if self.sync_failed { self.sync_written() } else { Ok(()) }
    }

    /// Flushes, and makes all of it durable.
    ///
    /// # Errors
    ///
    /// As [`Log::flush`].
    pub fn sync(&mut self) -> Result<(), AuditError> {
        self.flush()?;
        if self.unsynced { self.sync_written() } else { Ok(()) }
    }

    /// Whether the log takes entries.
    pub fn healthy(&self) -> bool {
        self.failed.is_none()
    }

    /// Sequence number of the next entry.
    pub fn next_sequence(&self) -> u64 {
        self.chain.next
    }

    /// Head of the chain, buffered entries included.
    pub fn head(&self) -> Head {
        self.chain.head
    }

    fn sync_written(&mut self) -> Result<(), AuditError> {
        let synced = self.sink.sync();
        self.sync_failed = synced.is_err();
        self.note(synced)?;
        self.unsynced = false;
        Ok(())
    }

    fn note(&mut self, outcome: io::Result<()>) -> Result<(), AuditError> {
        self.failed = outcome.as_ref().err().map(io::Error::kind);
        outcome.map_err(AuditError::Sink)
    }
}

#[cfg(test)]
mod tests;
