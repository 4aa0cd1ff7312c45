//! A line for each request, written by a thread of its own: no worker ever waits for a disk.

mod format;
mod writer;

use std::cell::RefCell;
use std::fmt::{Display, Write};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::spawn_local;

use crate::config::{LogFormat, LogSettings};
use crate::hand_over::hand_over_soon;

pub(crate) use format::{Entry, PassedEntry};

use writer::{Destination, Message, Writer};

/// What a worker collects before it hands it over: waking the writer for each line would cost more than the line.
const BATCH: usize = 32 * 1024;

/// How long a line may wait for others.
const DELAY: Duration = Duration::from_millis(200);

/// Batches that may wait for the disk, some 8 MiB; what comes on top is dropped and counted.
const QUEUE: usize = 256;

/// How long the end of the process may take for lines that are not written yet.
const FAREWELL: Duration = Duration::from_secs(2);

/// An access log that is open.
pub(crate) struct AccessLog {
    settings: LogSettings,
    to_writer: mpsc::Sender<Message>,
    counts: Arc<Counts>,
}

/// What became of the lines.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) written: AtomicU64,
    /// For want of room in the queue, or because writing failed.
    pub(crate) dropped: AtomicU64,
}

impl AccessLog {
    /// Opens the log that the settings name, if they do, and starts its thread, which ends with the last reference.
    ///
    /// # Errors
    ///
    /// Those of opening the file, or of starting the thread.
    pub(crate) fn open(settings: &LogSettings, counts: &Arc<Counts>) -> io::Result<Option<Arc<Self>>> {
        let Some(path) = &settings.access else { return Ok(None) };
        let destination =
            if path == Path::new("stdout") { Destination::Stdout } else { Destination::open(path)? };
        let (to_writer, messages) = mpsc::channel(QUEUE);
        Writer::new(destination, Arc::clone(counts)).start(messages)?;
        Ok(Some(Arc::new(Self { settings: settings.clone(), to_writer, counts: Arc::clone(counts) })))
    }

    /// Whether it is what the settings ask for.
    pub(crate) fn is_as(&self, settings: &LogSettings) -> bool {
        self.settings == *settings
    }

    /// Opens the file anew.
    pub(crate) async fn reopen(&self) {
        // The writer is there as long as this is.
        let _ = self.to_writer.send(Message::Reopen).await;
    }

    /// Waits until all is written that was handed over, but not long.
    pub(crate) fn finish(&self) {
        let (done, finished) = std::sync::mpsc::channel();
        if self.to_writer.try_send(Message::Finish(done)).is_ok() {
            // It is late: that some lines are missing then is not told to anybody.
            let _ = finished.recv_timeout(FAREWELL);
        }
    }

    fn hand_over(&self, batch: Batch) {
        let lines = batch.lines;
        match self.to_writer.try_send(Message::Lines(batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.counts.dropped.fetch_add(lines, Relaxed);
            }
        }
    }
}

/// Some lines.
#[derive(Default)]
struct Batch {
    text: String,
    lines: u64,
}

/// One worker's end of an access log.
pub(crate) struct Lines {
    log: Arc<AccessLog>,
    batch: RefCell<Batch>,
    /// Told of the first line of a batch.
    first: Rc<Notify>,
}

impl Lines {
    /// To be called inside a `LocalSet`.
    pub(crate) fn new(log: Arc<AccessLog>) -> Rc<Self> {
        let lines = Rc::new(Self { log, batch: RefCell::default(), first: Rc::default() });
        spawn_local(hand_over_soon(Rc::downgrade(&lines), Rc::clone(&lines.first), DELAY, Self::flush));
        lines
    }

    /// Whether queries may be written.
    pub(crate) fn with_query(&self) -> bool {
        self.log.settings.query
    }

    /// Writes a request down: at the latest after [`DELAY`] it is with the writer.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        match self.log.settings.format {
            LogFormat::Json => self.line(entry.json()),
            LogFormat::Common => self.line(entry.common()),
            LogFormat::Combined => self.line(entry.combined()),
        }
    }

    /// The same for a connection that was passed on.
    pub(crate) fn write_passed(&self, entry: &PassedEntry<'_>) {
        match self.log.settings.format {
            LogFormat::Json => self.line(entry.json()),
            LogFormat::Common => self.line(entry.common()),
            LogFormat::Combined => self.line(format_args!("{} \"-\" \"-\"", entry.common())),
        }
    }

    fn line(&self, line: impl Display) {
        let mut batch = self.batch.borrow_mut();
        let is_first = batch.text.is_empty();
        // Writing to a `String` does not fail.
        let _ = write!(batch.text, "{line}");
        batch.text.push('\n');
        batch.lines += 1;
        if batch.text.len() >= BATCH {
            let full = std::mem::take(&mut *batch);
            self.log.hand_over(full);
        } else if is_first {
            self.first.notify_one();
        }
    }

    fn flush(&self) {
        let batch = self.batch.take();
        if batch.lines > 0 {
            self.log.hand_over(batch);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
        self.first.notify_one();
    }
}

#[cfg(test)]
mod tests;
