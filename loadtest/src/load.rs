//! Many handshakes at a time, on a few threads.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::failure::Failure;
use crate::handshake::handshake;
use crate::schedule::{Extent, Schedule};
use crate::tally::Tally;
use crate::target::Target;

/// How much load to make, and of what kind.
#[derive(Clone)]
pub struct Load {
    /// The server.
    pub target: Target,
    /// When it is over.
    pub extent: Extent,
    /// Handshakes to begin each second, whatever the server does (an open loop); if none, each of the `concurrency`
    /// tasks begins one when its last is finished.
    pub rate: Option<f64>,
    /// Handshakes under way at the same time, at most; spread over the threads.
    pub concurrency: u16,
    /// Threads of the client; at least one.
    pub threads: u16,
    /// A handshake that takes longer has failed.
    pub timeout: Duration,
}

/// A load under way.
pub struct Running {
    shared: Arc<Shared>,
    tallies: mpsc::UnboundedReceiver<Tally>,
    /// Threads whose tally is not in yet.
    threads: usize,
    total: Tally,
}

struct Shared {
    target: Target,
    schedule: Schedule,
    timeout: Duration,
    handshakes: AtomicU64,
    failed: AtomicU64,
    abandoned: watch::Sender<bool>,
}

/// Why a load can't be made, or its result not be known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The system gave no thread or no event queue.
    #[error("a thread for the load can't be started: {0}")]
    Thread(#[from] io::Error),
    /// A thread of the load died: a bug.
    #[error("a thread of the load died; its result is lost")]
    Died,
}

impl Load {
    /// Starts it on threads of its own.
    ///
    /// # Errors
    ///
    /// If the system refuses the threads.
    pub fn start(self) -> Result<Running, LoadError> {
        self.target.warm_up();
        let begun = Instant::now();
        let shared = Arc::new(Shared {
            target: self.target,
            schedule: Schedule::new(begun, self.extent, self.rate),
            timeout: self.timeout,
            handshakes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            abandoned: watch::Sender::new(false),
        });
        let (sender, tallies) = mpsc::unbounded_channel();
        let threads = self.threads.clamp(1, self.concurrency.max(1));
        for thread in 0..threads {
            // The first threads take what doesn't divide evenly.
            let tasks = self.concurrency.max(1) / threads + u16::from(thread < self.concurrency % threads);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (shared, sender) = (Arc::clone(&shared), sender.clone());
            std::thread::Builder::new().name(format!("load-{thread}")).spawn(move || {
                // The receiver is gone only if nobody wants to know any more.
                let _unwanted = sender.send(runtime.block_on(run_tasks(&shared, tasks)));
            })?;
        }
        Ok(Running { shared, tallies, threads: usize::from(threads), total: Tally::new(begun) })
    }
}

/// Looks at a load from aside: counts so far, and the means to break it off.
#[derive(Clone)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
}

impl Running {
    pub(crate) fn watch(&self) -> Watch {
        Watch { shared: Arc::clone(&self.shared) }
    }

    /// Begins no more handshakes and breaks off those under way; the tally has them as abandoned.
    pub fn abandon(&self) {
        self.watch().abandon();
    }

    /// Waits until all are finished. Safe to cancel and to call again.
    ///
    /// # Errors
    ///
    /// If a thread died.
    pub async fn finished(&mut self) -> Result<(), LoadError> {
        while self.threads > 0 {
            let tally = self.tallies.recv().await.ok_or(LoadError::Died)?;
            self.threads -= 1;
            self.total.merge(tally);
        }
        Ok(())
    }

    /// What came of it; complete after [`Self::finished`].
    pub fn tally(&self) -> &Tally {
        &self.total
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Watch {
    /// Since when it runs.
    pub(crate) fn begun(&self) -> Instant {
        self.shared.schedule.begun()
    }

    /// Handshakes that succeeded so far, and those that failed.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.shared.handshakes.load(Ordering::Relaxed), self.shared.failed.load(Ordering::Relaxed))
    }

    pub(crate) fn abandon(&self) {
        self.shared.schedule.stop();
        self.shared.abandoned.send_replace(true);
    }
}

async fn run_tasks(shared: &Arc<Shared>, tasks: u16) -> Tally {
    let tally = Rc::new(RefCell::new(Tally::new(shared.schedule.begun())));
    let local = LocalSet::new();
    for _ in 0..tasks {
        let (shared, tally) = (Arc::clone(shared), Rc::clone(&tally));
        local.spawn_local(async move {
            let mut abandoned = shared.abandoned.subscribe();
            tokio::select! {
                () = one_after_the_other(&shared, &tally) => {}
                _ = abandoned.wait_for(|abandoned| *abandoned) => {}
            }
        });
    }
    local.await;
    tally.replace(Tally::new(shared.schedule.begun()))
}

async fn one_after_the_other(shared: &Shared, tally: &RefCell<Tally>) {
    let client = shared.target.another_client();
    let mut first = true;
    while let Some(begun) = shared.schedule.next().await {
        tally.borrow_mut().in_flight += 1;
        let result = one(&client, shared.timeout, first, begun, tally).await;
        first &= result.is_err();
        let now = Instant::now();
        let mut tally = tally.borrow_mut();
        tally.in_flight -= 1;
        match result {
            Ok(latency) => {
                tally.succeeded(latency, now);
                shared.handshakes.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => {
                tally.failed(&failure, now);
                shared.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// One handshake and its end. The latency counts from `begun` to the client's Finished.
async fn one(
    target: &Target,
    timeout: Duration,
    first: bool,
    begun: Instant,
    tally: &RefCell<Tally>,
) -> Result<Duration, Failure> {
    let limit = Instant::now() + timeout;
    let name = target.server_names.next();
    let mut connection = tokio::time::timeout_at(limit.into(), handshake(target, &name, first))
        .await
        .map_err(|_| Failure::Timeout)??;
    let latency = begun.elapsed();
    if tally.borrow().negotiated.is_none() {
        tally.borrow_mut().negotiated = Some(connection.negotiated());
    }
    if target.request {
        // On the heap: its buffer would be in each of thousands of tasks.
        tokio::time::timeout_at(limit.into(), Box::pin(connection.request(&name)))
            .await
            .map_err(|_| Failure::Timeout)??;
    }
    connection.finish().await?;
    Ok(latency)
}

#[cfg(test)]
mod tests;
