//! The writer: chain, bounded buffer, and what happens when the disk is full.

use std::io;

use keycore_wire::{AuditAnchor, ClusterId};

use crate::chain::{Chain, Head};
use crate::checkpoint;
use crate::entry::{Entry, Subject};
use crate::file::{Outlived, Retention};

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

    /// Begins another file if it is time to. A checkpoint is the next record, so that the older files can be taken away later.
    ///
    /// # Errors
    ///
    /// What the operating system says. It will be called again.
    fn rotate(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What the log knows of an earlier head. A sink that keeps nothing that it could look at knows nothing.
    ///
    /// # Errors
    ///
    /// What the operating system says, or that the record can't be read.
    fn head_at(&mut self, _sequence: u64) -> io::Result<Past> {
        Ok(Past::Unknown)
    }

    /// What need not be kept of the records up to `anchored`. A sink without files has nothing to take away.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn outlived(
        &mut self,
        _keep: &Retention,
        _now_micros: u64,
        _anchored: u64,
    ) -> io::Result<Option<Outlived>> {
        Ok(None)
    }

    /// Takes away the records before `first`, which [`Sink::outlived`] named.
    ///
    /// # Errors
    ///
    /// What the operating system says; some may be gone then, the oldest first.
    fn remove_before(&mut self, _first: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Name of the operation that takes old segments away.
const PRUNE: &str = "AuditPrune";

/// What a log knows of the head that it once had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// It was this.
    Was(Head),
    /// It has not come so far.
    Future,
    /// Nothing: those records were taken away.
    Unknown,
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
    /// A checkpoint can't be signed.
    #[error("an audit checkpoint can't be signed")]
    Sign,
    /// Whoever writes it found that it is not the log that it should be.
    #[error("the audit log is another one than was anchored, and takes no record")]
    Closed,
    /// The entry can't be encoded: a fault of the program.
    #[error("an audit entry can't be encoded")]
    Entry,
}

impl AuditError {
    /// Whether there is no room for the log: on its file system, or in its owner's quota.
    pub fn is_storage_full(&self) -> bool {
        let kind = match self {
            Self::Sink(error) => error.kind(),
            Self::Failed(kind) => *kind,
            Self::Sign | Self::Closed | Self::Entry => return false,
        };
        matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
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
    /// Number of the last checkpoint's record.
    checkpoint: u64,
}

impl Log {
    /// A log that goes on where `chain` stands, with the next boot; `sink` must hold the records up to there.
    pub fn new(chain: Chain, sink: Box<dyn Sink>) -> Self {
        let chain = Chain { boot: chain.boot.saturating_add(1), ..chain };
        Self {
            chain,
            checkpoint: 0,
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

    /// How many times the replica has started.
    pub fn boot(&self) -> u32 {
        self.chain.boot
    }

    /// Records since the last checkpoint of this process; all if there was none.
    pub fn unsigned(&self) -> u64 {
        (self.chain.next - 1).saturating_sub(self.checkpoint)
    }

    /// Where the log stood after an earlier record; see [`Sink::head_at`].
    ///
    /// # Errors
    ///
    /// As [`Log::flush`], which comes first.
    pub fn head_at(&mut self, sequence: u64) -> Result<Past, AuditError> {
        if sequence >= self.chain.next {
            return Ok(Past::Future);
        }
        self.flush()?;
        self.sink.head_at(sequence).map_err(AuditError::Sink)
    }

    /// Appends a checkpoint and makes it durable: a record in which `sign` vouches for all before it. Begins another file first
    /// if the sink wants to. Returns what was signed, to be anchored elsewhere.
    ///
    /// # Errors
    ///
    /// [`AuditError::Sign`] if `sign` gives nothing, and as [`Log::append`] and [`Log::sync`].
    pub fn checkpoint(
        &mut self,
        (cluster, replica): (ClusterId, u16),
        at_micros: u64,
        sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<AuditAnchor, AuditError> {
        self.flush()?;
        self.sink.rotate().map_err(AuditError::Sink)?;
        let Chain { next, head, boot } = self.chain;
        let mut anchor =
            AuditAnchor { replica, boot, at_micros, sequence: next - 1, head: head.0, signature: Vec::new() };
        anchor.signature = sign(&checkpoint::statement(cluster, &anchor)).ok_or(AuditError::Sign)?;
        self.append(&checkpoint::entry(cluster, &anchor))?;
        self.sync()?;
        self.checkpoint = next;
        Ok(anchor)
    }

    /// Takes away old records that `keep` does not want, as far as they end at a checkpoint and are among those up to `anchored`. A
    /// record says so, and is on the disk before they go. Returns what went, if anything did.
    ///
    /// # Errors
    ///
    /// As [`Log::append`] and [`Log::sync`], and [`AuditError::Sink`] if files can't be read or removed: the log goes on, and the
    /// next call tries again.
    pub fn prune(
        &mut self,
        keep: &Retention,
        now_micros: u64,
        anchored: u64,
    ) -> Result<Option<Outlived>, AuditError> {
        let outlived = self.sink.outlived(keep, now_micros, anchored).map_err(AuditError::Sink)?;
        let Some(outlived) = outlived else { return Ok(None) };
        self.append(&Entry::by_engine(now_micros, PRUNE, Subject::None, &outlived.to_string()))?;
        self.sync()?;
        self.sink.remove_before(outlived.first_kept).map_err(AuditError::Sink)?;
        Ok(Some(outlived))
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
