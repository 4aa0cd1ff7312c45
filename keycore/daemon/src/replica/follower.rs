//! The thread that keeps a replica up to date with the store, and its audit log with the disk.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use keycore_engine::Engine;

use crate::clock::Clock;
use crate::exit;

/// Follows the store's revisions and writes out the audit log, so that the event loop never waits for a disk.
#[derive(Debug)]
pub(super) struct Follower {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Follower {
    /// How often: a deleted key stops working within this and the time to look, far below the promised 100 ms; and no
    /// record of a signature waits longer for the disk.
    const PERIOD: Duration = Duration::from_millis(25);
    /// Looks at the store that are left out after each failure in a row, at most.
    const MAX_PAUSE: u32 = 40;

    /// Starts the thread.
    pub(super) fn start(engine: Arc<Engine>, clock: Clock) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("follower".into()).spawn(move || {
            let _guard = Indispensable;
            follow(&engine, clock, &stopped);
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        drop(self.stop);
        let _panicked_and_said_so = self.thread.join();
    }
}

/// A replica that no longer follows would go on to use deleted keys: it must not outlive this thread's panic.
struct Indispensable;

impl Drop for Indispensable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(i32::from(exit::SOFTWARE));
        }
    }
}

fn follow(engine: &Engine, clock: Clock, stopped: &mpsc::Receiver<()>) {
    let (mut store, mut audit) =
        (Health::new("the store can't be followed"), Health::new("the audit log can't be written"));
    let (mut pause, mut next_pause) = (0, 1);
    while stopped.recv_timeout(Follower::PERIOD) == Err(RecvTimeoutError::Timeout) {
        if pause > 0 {
            pause -= 1;
        } else {
            let followed = engine.follow(clock.now());
            if followed.is_err() {
                pause = next_pause;
                next_pause = (next_pause * 2).min(Follower::MAX_PAUSE);
            } else {
                next_pause = 1;
            }
            store.note(followed.as_ref().err());
        }
        audit.note(engine.flush_audit().as_ref().err());
    }
}

/// Logs a failure when it begins and when it is over.
struct Health {
    trouble: &'static str,
    failing: bool,
}

impl Health {
    fn new(trouble: &'static str) -> Self {
        Self { trouble, failing: false }
    }

    fn note(&mut self, error: Option<&impl std::fmt::Display>) {
        match error {
            Some(error) if !self.failing => tracing::error!("{}: {error}; trying again", self.trouble),
            None if self.failing => tracing::info!("over: {}", self.trouble),
            _ => {}
        }
        self.failing = error.is_some();
    }
}
