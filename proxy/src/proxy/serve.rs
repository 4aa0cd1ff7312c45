//! From a proxy that holds its ports to the end of its last connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::running::{Ended, Running, Workers, drained, first_end};
use super::signals::Signals;
use super::{Proxy, RunError};
use crate::acme;
use crate::generation::Generation;
use crate::notify::notify;
use crate::process;
use crate::reload::{self, Reloader};
use crate::shutdown::{Shutdown, ShutdownHandle};
use crate::upgrade::{Attempt, Predecessor, Program};
use crate::worker::{self, Shared};

/// How long a process that takes over waits for engines.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long workers may take to name their sockets.
const SHARE_PATIENCE: Duration = Duration::from_secs(5);

impl Proxy {
    /// Serves until SIGTERM or SIGINT, and drains. A second signal ends the drain at once.
    ///
    /// With a configuration file, reloads it on SIGHUP, and when it or a file that it
    /// names has changed. A configuration that can't be used changes nothing: the log and the metrics say so. On SIGUSR2,
    /// starts its program anew, lets that take over its sockets, and drains when it has.
    ///
    /// On SIGUSR1 it opens its access log anew.
    ///
    /// Calls `serving` once the workers run and signals are caught. Raises the process's limit of open files.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a worker can't start or fails.
    pub fn run(mut self, serving: impl FnOnce()) -> Result<(), RunError> {
        process::raise_file_limit(self.shared.generation.borrow().limits.connections);
        let (handle, shutdown) = Shutdown::new();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
        let mut signals = {
            let _guard = runtime.enter();
            Signals::new().map_err(RunError::Start)?
        };
        let generation = self.shared.generation.clone();
        let reopening = reopen_log(generation.clone(), caught(&runtime, SignalKind::user_defined1())?);
        // Without a file nobody knows what to load; then these signals end the process, as they do by default.
        let (mut reloads, mut successor) = (None, None);
        let attempt = Arc::new(Attempt::default());
        if let Some(watched) = self.watched.take() {
            let hangup = caught(&runtime, SignalKind::hangup())?;
            reloads = Some(reload::follow(self.reloader(), watched, hangup));
            let program = Program::of_this_process().map_err(RunError::Start)?;
            let asked = caught(&runtime, SignalKind::user_defined2())?;
            successor = Some(hand_over(program, self.reloader(), asked, Arc::clone(&attempt)));
        }
        let (predecessor, shared, reloader) =
            (self.predecessor.take(), Arc::clone(&self.shared), self.reloader());
        let admin = self.admin;
        let certificates = acme::follow(
            generation.clone(),
            Arc::clone(&shared.keys),
            Arc::clone(&shared.challenges),
            Arc::clone(&shared.metrics.acme),
        );
        let running = self.start(&shutdown, predecessor.is_none())?;
        serving();
        runtime.block_on(async {
            let Running { workers, listeners, mut ended } = running;
            if let Some(predecessor) = predecessor {
                let taken = tokio::select! {
                    taken = take_over(predecessor, &shared, &workers, || reloader.listen(listeners)) => taken,
                    () = signals.next() => Err(RunError::TakeOver("it is told to end".to_owned())),
                };
                if let Err(error) = taken {
                    handle.request();
                    drained(&mut ended).await;
                    return workers.join().and(Err(error));
                }
            }
            tokio::select! {
                never = reopening => match never {},
                never = certificates => match never {},
                never = some(reloads) => match never {},
                () = signals.next() => {
                    tracing::info!("draining");
                    notify("STOPPING=1");
                    attempt.call_off();
                    drain(&handle, &mut ended, &mut signals, &workers).await;
                }
                successor = some(successor) => {
                    tracing::info!(successor, "draining: another process has taken over");
                    notify(&format!("MAINPID={successor}\nREADY=1"));
                    if let Some(admin) = admin {
                        // Who asks for our readiness means the other's.
                        reloader.close(admin);
                    }
                    drain(&handle, &mut ended, &mut signals, &workers).await;
                }
                () = first_end(&mut ended, &handle) => {}
            }
            let ended = workers.join();
            let access_log = generation.borrow().access_log.clone();
            if let Some(access_log) = access_log {
                access_log.finish();
            }
            shared.metrics.spans.finish();
            ended
        })
    }

    /// Serves until `shutdown` is requested, and drains. Signals are the caller's.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a worker can't start or fails.
    pub fn run_until(self, shutdown: &Shutdown) -> Result<(), RunError> {
        self.start(shutdown, true)?.workers.join()
    }

    fn start(self, shutdown: &Shutdown, listen: bool) -> Result<Running, RunError> {
        let (alive, ended) = mpsc::unbounded_channel();
        let mut listeners = self.listeners;
        if listen {
            self.reloader.listen(std::mem::take(&mut listeners));
        }
        let mut workers = Workers { threads: Vec::new(), pid_file: self.pid_file };
        for post in self.workers {
            let (shared, shutdown, alive) = (Arc::clone(&self.shared), shutdown.clone(), alive.clone());
            let thread = thread::Builder::new().name(format!("worker-{}", post.number)).spawn(move || {
                // Dropped however the thread ends.
                let _ended = Ended(alive);
                worker::run(shared, post, shutdown)
            });
            workers.threads.push(thread.map_err(RunError::Start)?);
        }
        if listen {
            notify("READY=1");
        }
        for address in &self.addresses {
            tracing::info!(%address, workers = workers.threads.len(), "serving");
        }
        Ok(Running { workers, listeners, ended })
    }
}

/// Begins the drain and awaits its end; another signal ends the process at once.
async fn drain(
    handle: &ShutdownHandle,
    ended: &mut mpsc::UnboundedReceiver<()>,
    signals: &mut Signals,
    workers: &Workers,
) {
    handle.request();
    tokio::select! {
        () = drained(ended) => {}
        () = signals.next() => {
            tracing::warn!("a second signal: connections are cut off");
            if let Some(file) = &workers.pid_file {
                file.remove();
            }
            std::process::exit(130);
        }
    }
}

fn caught(runtime: &Runtime, kind: SignalKind) -> Result<Signal, RunError> {
    let _guard = runtime.enter();
    signal(kind).map_err(RunError::Start)
}

/// Accepts connections and tells `predecessor` so, once all workers could have a handshake signed.
async fn take_over(
    predecessor: Predecessor,
    shared: &Shared,
    workers: &Workers,
    listen: impl FnOnce(),
) -> Result<(), RunError> {
    let ready = async {
        while !shared.views.all().await.ready {
            sleep(LOOK_AGAIN).await;
        }
    };
    if timeout(READY_PATIENCE, ready).await.is_err() {
        return Err(RunError::TakeOver(format!(
            "no engine can be asked within {} s",
            READY_PATIENCE.as_secs()
        )));
    }
    let failed = |error: &dyn std::fmt::Display| RunError::TakeOver(error.to_string());
    if let Some(file) = &workers.pid_file {
        file.write().map_err(|error| failed(&error))?;
    }
    listen();
    predecessor.ready().map_err(|error| failed(&error))?;
    tracing::info!("taken over");
    Ok(())
}

/// Never ends.
async fn reopen_log(generation: watch::Receiver<Arc<Generation>>, mut reopen: Signal) -> Infallible {
    loop {
        reopen.recv().await;
        let access_log = generation.borrow().access_log.clone();
        if let Some(access_log) = access_log {
            access_log.reopen().await;
            tracing::info!("SIGUSR1: the access log is opened anew");
        }
    }
}

/// The process id of the one that took over; until then every attempt that fails changes nothing.
async fn hand_over(program: Program, reloader: Reloader, mut asked: Signal, attempt: Arc<Attempt>) -> u32 {
    loop {
        asked.recv().await;
        tracing::info!("SIGUSR2: another process is started");
        let Ok(sockets) = timeout(SHARE_PATIENCE, reloader.sockets()).await else {
            tracing::error!("no other process takes over: a worker does not answer");
            continue;
        };
        let (starting, attempt) = (program.clone(), Arc::clone(&attempt));
        match spawn_blocking(move || starting.take_over(&sockets, &attempt)).await {
            Ok(Ok(successor)) => return successor,
            Ok(Err(error)) => tracing::error!(%error, "no other process takes over: this one goes on"),
            Err(error) => tracing::error!(%error, "no other process takes over: this one goes on"),
        }
    }
}

/// Never completes without a future.
async fn some<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
