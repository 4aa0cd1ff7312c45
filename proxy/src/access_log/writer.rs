use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use tokio::sync::mpsc;

use super::{Batch, Counts};
use crate::throttle::Throttle;

/// What the writer is told.
pub(super) enum Message {
    Lines(Batch),
    /// Open the file anew.
    Reopen,
    /// Say when everything before is written.
    Finish(std::sync::mpsc::Sender<()>),
}

/// Where lines go.
pub(super) enum Destination {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Destination {
    /// Appends to a file, which is made if it is not there, for its owner and group only.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        Ok(Self::File { path: path.to_owned(), file })
    }

    /// Opens the file anew, if there is one; the old one stays if that fails.
    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, .. } = self {
            *self = Self::open(path)?;
        }
        Ok(())
    }

    /// Whether the file is not the one under its name any more.
    fn was_moved(&self) -> bool {
        let Self::File { path, file } = self else { return false };
        let (Ok(open), found) = (file.metadata(), std::fs::metadata(path)) else { return false };
        found.map_or(true, |found| (found.dev(), found.ino()) != (open.dev(), open.ino()))
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(text),
        }
    }
}

/// The thread that writes.
pub(super) struct Writer {
    destination: Destination,
    counts: Arc<Counts>,
    complaints: Throttle,
}

impl Writer {
    pub(super) fn new(destination: Destination, counts: Arc<Counts>) -> Self {
        Self { destination, counts, complaints: Throttle::new() }
    }

    pub(super) fn start(mut self, mut messages: mpsc::Receiver<Message>) -> io::Result<()> {
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            while let Some(message) = messages.blocking_recv() {
                match message {
                    Message::Lines(batch) => self.write(&batch),
                    Message::Reopen => self.reopen(),
                    // Whoever asked may have lost patience.
                    Message::Finish(done) => drop(done.send(())),
                }
            }
        })?;
        Ok(())
    }

    fn write(&mut self, batch: &Batch) {
        // Once for a batch: whoever rotates logs need not tell us.
        if self.destination.was_moved() {
            self.reopen();
        }
        match self.destination.write(batch.text.as_bytes()) {
            Ok(()) => self.counts.written.fetch_add(batch.lines, Relaxed),
            Err(error) => {
                if let Some(held_back) = self.complaints.pass() {
                    tracing::error!(%error, held_back, "can't write the access log");
                }
                self.counts.dropped.fetch_add(batch.lines, Relaxed)
            }
        };
    }

    fn reopen(&mut self) {
        if let Err(error) = self.destination.reopen()
            && let Some(held_back) = self.complaints.pass()
        {
            tracing::error!(%error, held_back, "can't open the access log anew: the old file is written to");
        }
    }
}
