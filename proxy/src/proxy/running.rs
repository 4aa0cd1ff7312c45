//! The workers of a proxy that serves.

use std::io;
use std::net::TcpListener;
use std::thread;

use tokio::sync::mpsc;

use super::RunError;
use super::pid_file::PidFile;
use crate::config::Entrance;
use crate::shutdown::ShutdownHandle;

pub(super) struct Running {
    pub(super) workers: Workers,
    /// To be accepted on later, with their workers.
    pub(super) listeners: Vec<(usize, TcpListener, Entrance)>,
    /// A message for each worker that ended.
    pub(super) ended: mpsc::UnboundedReceiver<()>,
}

pub(super) struct Workers {
    pub(super) threads: Vec<thread::JoinHandle<io::Result<()>>>,
    /// Dropped, and removed, when the last worker has ended.
    pub(super) pid_file: Option<PidFile>,
}

impl Workers {
    /// Waits for all of them, and returns the first failure.
    pub(super) fn join(self) -> Result<(), RunError> {
        let mut outcome = Ok(());
        for (worker, thread) in self.threads.into_iter().enumerate() {
            let reason = match thread.join() {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_panic) => "it panicked, see above".to_owned(),
            };
            tracing::error!(worker, reason, "a worker failed");
            if outcome.is_ok() {
                outcome = Err(RunError::Worker { worker, reason });
            }
        }
        outcome
    }
}

pub(super) struct Ended(pub(super) mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody listens in `run_until`.
        let _ = self.0.send(());
    }
}

/// All workers have ended: each had a sender.
pub(super) async fn drained(ended: &mut mpsc::UnboundedReceiver<()>) {
    while ended.recv().await.is_some() {}
}

/// A worker ended although nobody asked: the others shall drain, and the service manager start anew.
pub(super) async fn first_end(ended: &mut mpsc::UnboundedReceiver<()>, handle: &ShutdownHandle) {
    let _ = ended.recv().await;
    handle.request();
    drained(ended).await;
}
