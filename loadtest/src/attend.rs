//! Sees a load through to its end, with progress, or to a Ctrl-C.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::load::{LoadError, Running};
use crate::progress::Progress;

/// Ctrl-C, SIGTERM and a terminal that is closed, from now on no longer fatal.
pub(crate) struct Interrupt {
    int: Signal,
    term: Signal,
    hangup: Signal,
}

impl Interrupt {
    /// Inside a runtime only.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Waits until the load has ended; says whether that was because of a Ctrl-C.
pub(crate) async fn attend(
    running: &mut Running,
    interrupt: &mut Interrupt,
    title: String,
) -> Result<bool, LoadError> {
    let watch = running.watch();
    let mut progress = Progress::new(title);
    let mut ticks = interval(Progress::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut interrupted = false;
    loop {
        tokio::select! {
            ended = running.finished() => return ended.map(|()| interrupted),
            _ = ticks.tick() => progress.show(&watch),
            () = interrupt.requested(), if !interrupted => {
                watch.abandon();
                interrupted = true;
            }
        }
    }
}
