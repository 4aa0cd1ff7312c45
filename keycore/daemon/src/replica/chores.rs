//! The threads that keep a replica up to date with the store, and its audit log with the disk.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use keycore_engine::{Engine, LeftBehind, Resealed};

use crate::clock::Clock;
use crate::exit;

/// Follows the store's revisions, writes out the audit log and signs it, so that the event loop never waits for a disk. Each is a
/// thread of its own: a store that is locked by a sibling, perhaps a stopped one, must not keep records in memory.
#[derive(Debug)]
pub(super) struct Chores([Chore; 5]);

impl Chores {
    /// How often: a deleted key stops working within this and the time to look, far below the promised 100 ms; and no
    /// record of a signature waits longer for the kernel.
    const PERIOD: Duration = Duration::from_millis(25);
    /// Looks at the store that are left out after each failure in a row, at most.
    const MAX_PAUSE: u32 = 40;
    /// Every so many periods the log is made durable: a machine that loses power loses a second of signatures' records.
    const SYNC_EVERY: u32 = 40;
    /// How long an engine answers once it is of no more use.
    const LAST_ANSWERS: Duration = Duration::from_millis(500);
    /// Every so many periods what ended is deleted, some ten seconds after it ended.
    const TIDY_EVERY: u32 = 400;
    /// How often the log is signed and anchored, if there is something new in it.
    const SIGN_EVERY: Duration = Duration::from_secs(1);

    /// How often it is looked whether a backup is due.
    const BACKUP_EVERY: Duration = Duration::from_secs(5);

    /// How often it is looked whether the cluster key is being rotated.
    const LOOK_FOR_ROTATION: Duration = Duration::from_millis(500);
    /// Between two batches of records, so that others come to the store.
    const BETWEEN_BATCHES: Duration = Duration::from_millis(10);

    /// Starts the threads.
    pub(super) fn start(engine: &Arc<Engine>, clock: Clock) -> io::Result<Self> {
        let [followed, recorded, signed, saved, resealed] = [(); 5].map(|()| Arc::clone(engine));
        Ok(Self([
            Chore::start("follower", move |stopped| follow(&followed, clock, stopped))?,
            Chore::start("recorder", move |stopped| record(&recorded, stopped))?,
            Chore::start("notary", move |stopped| sign(&signed, clock, stopped))?,
            Chore::start("backups", move |stopped| back_up(&saved, clock, stopped))?,
            Chore::start("resealer", move |stopped| reseal(&resealed, clock, stopped))?,
        ]))
    }

    /// Ends the threads and waits for them.
    pub(super) fn stop(self) {
        for Chore { stop, thread } in self.0 {
            drop(stop);
            let _panicked_and_said_so = thread.join();
        }
    }
}

/// A thread that works until its channel closes.
#[derive(Debug)]
struct Chore {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Chore {
    fn start(name: &str, work: impl FnOnce(&mpsc::Receiver<()>) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let _guard = Indispensable;
            work(&stopped);
        })?;
        Ok(Self { stop, thread })
    }
}

/// A replica that no longer follows would go on to use deleted keys, and one that no longer records would tell nobody: it
/// must not outlive such a thread's panic.
struct Indispensable;

impl Drop for Indispensable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(i32::from(exit::SOFTWARE));
        }
    }
}

fn follow(engine: &Engine, clock: Clock, stopped: &mpsc::Receiver<()>) {
    let mut store = Health::new("the store can't be followed");
    let mut leftovers = Health::new("keys whose time is over can't be deleted");
    let (mut pause, mut next_pause) = (0, 1);
    let mut periods = 0;
    let mut stands_still = false;
    while stopped.recv_timeout(Chores::PERIOD) == Err(RecvTimeoutError::Timeout) {
        if pause > 0 {
            pause -= 1;
            continue;
        }
        let followed = engine.follow(clock.now());
        if followed.is_err() {
            pause = next_pause;
            next_pause = (next_pause * 2).min(Chores::MAX_PAUSE);
        } else {
            next_pause = 1;
        }
        store.note(followed.as_ref().err());
        if engine.is_zeroized() {
            leave(engine, stopped, "the cluster was zeroized");
        }
        match engine.left_behind() {
            Some(LeftBehind::MethodChanged) => leave(
                engine,
                stopped,
                "what unseals the cluster was changed while this engine did not follow; it needs the new secret, or shares",
            ),
            Some(LeftBehind::PutBack(why)) if !stands_still => {
                tracing::error!("this engine does nothing more until it is started anew: {why}");
                stands_still = true;
            }
            _ => {}
        }
        periods = (periods + 1) % Chores::TIDY_EVERY;
        if periods == 0 {
            leftovers.note(engine.tidy(clock.now()).as_ref().err());
        }
    }
}

/// Ends the process, whose memory knew the cluster, once answers on their way are out and the audit log is on the disk.
fn leave(engine: &Engine, stopped: &mpsc::Receiver<()>, why: &str) -> ! {
    tracing::warn!("{why}; this engine ends, to be started anew");
    let _stopped = stopped.recv_timeout(Chores::LAST_ANSWERS);
    if let Err(error) = engine.sync_audit() {
        tracing::error!("the audit log's last records may be lost: {error}");
    }
    std::process::exit(i32::from(exit::ANEW));
}

fn record(engine: &Engine, stopped: &mpsc::Receiver<()>) {
    let mut audit = Health::new("audit records wait in memory");
    let mut periods = 0;
    let mut stopped_by = None;
    while stopped.recv_timeout(Chores::PERIOD) == Err(RecvTimeoutError::Timeout) {
        periods = (periods + 1) % Chores::SYNC_EVERY;
        let written = if periods == 0 { engine.sync_audit() } else { engine.flush_audit() };
        audit.note(written.as_ref().err());
        if stopped_by.is_none() {
            stopped_by = engine.failed_self_test();
            if let Some(test) = stopped_by {
                tracing::error!(
                    "a self-test failed, this engine does nothing more until it is started anew: {test}"
                );
            }
        }
    }
}

fn sign(engine: &Engine, clock: Clock, stopped: &mpsc::Receiver<()>) {
    let mut notary = Health::new("the audit log can't be signed and anchored");
    while stopped.recv_timeout(Chores::SIGN_EVERY) == Err(RecvTimeoutError::Timeout) {
        notary.note(engine.checkpoint_audit(clock.now()).as_ref().err());
    }
}

/// Makes the backups that are due, each of which takes as long as it takes.
fn back_up(engine: &Engine, clock: Clock, stopped: &mpsc::Receiver<()>) {
    let mut said = None;
    while stopped.recv_timeout(Chores::BACKUP_EVERY) == Err(RecvTimeoutError::Timeout) {
        match engine.backup_if_due(clock.now()) {
            Ok(None) => {}
            Ok(Some(made)) => {
                said = None;
                tracing::info!(name = made.name, bytes = made.size, "backup made");
            }
            Err(refusal) if said.as_ref() == Some(&refusal) => {}
            Err(refusal) => {
                tracing::error!("no backup was made: {refusal}; trying again");
                said = Some(refusal);
            }
        }
    }
}

/// Seals records anew while the cluster key is rotated.
fn reseal(engine: &Engine, clock: Clock, stopped: &mpsc::Receiver<()>) {
    let mut rotation = Health::new("the rotation of the cluster key does not go on");
    let mut pause = Chores::LOOK_FOR_ROTATION;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let resealed = engine.reseal(clock.now());
        rotation.note(resealed.as_ref().err());
        pause = match resealed {
            Ok(Resealed::Batch) => Chores::BETWEEN_BATCHES,
            Ok(Resealed::Complete) => {
                tracing::info!("the cluster key is rotated");
                Chores::LOOK_FOR_ROTATION
            }
            Ok(Resealed::Idle) | Err(_) => Chores::LOOK_FOR_ROTATION,
        };
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

#[cfg(test)]
mod tests;
