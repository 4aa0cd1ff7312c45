//! One worker: a thread with a single-threaded runtime, its own listening sockets, connections and upstreams.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use handshake_fiber::StackPool;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::admin::Admin;
use crate::config::{Limits, Timeouts};
use crate::connection::ClientConnection;
use crate::forward::Forwarder;
use crate::handshake::{FailureLog, HandshakeError, Handshaker};
use crate::keys::KeySource;
use crate::listener;
use crate::metrics::{HandshakeResult, Metrics};
use crate::shutdown::Shutdown;
use crate::sites::Sites;
use crate::throttle::Throttle;
use crate::tls::Tls;
use crate::views::{Questions, Views, is_ready};

/// Stacks that a worker keeps for the next burst of handshakes: 32 MiB of address space, about a third of it resident.
const IDLE_STACKS: usize = 256;

/// How long a worker leaves the kernel's queue alone when there is no file descriptor for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How long engines may take to connect and log in before the log says that none did.
const START_PATIENCE: Duration = Duration::from_secs(3);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) tls: Arc<Tls>,
    pub(crate) sites: Arc<Sites>,
    pub(crate) keys: Arc<dyn KeySource>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) views: Views,
    /// Room for connections.
    pub(crate) connections: Arc<Semaphore>,
    /// Room for handshakes.
    pub(crate) fibers: Arc<Semaphore>,
    pub(crate) complaints: Complaints,
}

/// Log lines that would come with every connection.
pub(crate) struct Complaints {
    full: Throttle,
    accept: Throttle,
    pub(crate) handshakes: FailureLog,
}

impl Complaints {
    pub(crate) fn new() -> Self {
        Self { full: Throttle::new(), accept: Throttle::new(), handshakes: FailureLog::new() }
    }
}

/// Serves these listeners on the calling thread until the drain has ended.
///
/// # Errors
///
/// If the thread gets no runtime or can't watch its sockets.
pub(crate) fn run(
    shared: Arc<Shared>,
    number: usize,
    listeners: Vec<StdListener>,
    questions: Questions,
    admin: Option<StdListener>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    // What the drain leaves behind ends with `local`: suspended handshakes are unwound here, on their thread.
    local.block_on(&runtime, async move {
        shared.keys.start_worker();
        tokio::task::spawn_local(questions.answer(Arc::clone(&shared.keys)));
        if number == 0 {
            tokio::task::spawn_local(warn_if_not_ready(Arc::clone(&shared.keys)));
        }
        let worker = Worker::new(Arc::clone(&shared), shutdown);
        let served = worker.serve(listeners, admin).await;
        shared.keys.stop_worker();
        served
    })
}

struct Worker {
    shared: Arc<Shared>,
    handshaker: Handshaker,
    forwarder: Rc<Forwarder>,
    shutdown: Shutdown,
}

impl Worker {
    fn new(shared: Arc<Shared>, shutdown: Shutdown) -> Rc<Self> {
        let handshaker = Handshaker::new(
            Arc::clone(&shared.tls),
            Arc::clone(&shared.sites),
            StackPool::new(IDLE_STACKS),
            Arc::clone(&shared.fibers),
        );
        let forwarder = Rc::new(Forwarder::new(&shared.limits, &shared.timeouts));
        Rc::new(Self { shared, handshaker, forwarder, shutdown })
    }

    async fn serve(
        self: Rc<Self>,
        listeners: Vec<StdListener>,
        admin: Option<StdListener>,
    ) -> io::Result<()> {
        // Each connection holds a sender; when all are gone, the receiver hears of it.
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
        if let Some(admin) = admin {
            let admin = Admin::new(TcpListener::from_std(admin)?, Arc::clone(&self.shared));
            tokio::task::spawn_local(admin.serve(self.shutdown.clone()));
        }
        let mut accepting = Vec::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            accepting.push(tokio::task::spawn_local(Rc::clone(&self).accept_all(listener, alive.clone())));
        }
        drop(alive);
        for task in accepting {
            task.await.map_err(io::Error::other)?;
        }
        // From here on it drains.
        if timeout(self.shared.timeouts.drain, all_gone.recv()).await.is_err() {
            tracing::warn!("connections that did not end within timeouts.drain are cut off");
        }
        Ok(())
    }

    /// Accepts until the drain begins, and then those whom the kernel holds already.
    async fn accept_all(self: Rc<Self>, listener: TcpListener, alive: mpsc::Sender<Infallible>) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.requested() => return self.accept_queued(listener, &alive),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let Some(permit) = unless(shutdown.requested(), self.room()).await else { return };
                    self.spawn(stream, remote, permit, &alive);
                }
                Err(error) if is_exhaustion(&error) => {
                    if let Some(held_back) = self.shared.complaints.accept.pass() {
                        tracing::error!(%error, held_back, "can't accept connections; raise LimitNOFILE?");
                    }
                    sleep(EXHAUSTED_PAUSE).await;
                }
                // That connection is gone; the next one is another matter.
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
    }

    /// Takes the connections that wait in the kernel: closing the socket would reset clients that have done nothing wrong.
    fn accept_queued(self: &Rc<Self>, listener: TcpListener, alive: &mpsc::Sender<Infallible>) {
        // Without the runtime, which may not have heard of them yet.
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..listener::BACKLOG {
            let accepted = listener.accept().and_then(|(stream, remote)| {
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, remote))
            });
            match accepted {
                Ok((stream, remote)) => {
                    let Ok(permit) = Arc::clone(&self.shared.connections).try_acquire_owned() else { return };
                    self.spawn(stream, remote, permit, alive);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_exhaustion(&error) => return,
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
    }

    fn spawn(
        self: &Rc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
        alive: &mpsc::Sender<Infallible>,
    ) {
        let connection = Rc::clone(self).connection(stream, remote, permit);
        let alive = alive.clone();
        tokio::task::spawn_local(async move {
            connection.await;
            drop(alive);
        });
    }

    /// Waits until the process may have another connection.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        let connections = &self.shared.connections;
        if let Ok(permit) = Arc::clone(connections).try_acquire_owned() {
            return Some(permit);
        }
        if let Some(held_back) = self.shared.complaints.full.pass() {
            let limit = self.shared.limits.connections;
            tracing::warn!(limit, held_back, "limits.connections is reached: new connections wait");
        }
        Arc::clone(connections).acquire_owned().await.ok()
    }

    /// One client, from its first byte to its last.
    async fn connection(self: Rc<Self>, stream: TcpStream, remote: SocketAddr, permit: OwnedSemaphorePermit) {
        let _counted = Counted::new(&self.shared.metrics, permit);
        let Ok(local) = stream.local_addr() else { return };
        listener::configure(&stream);
        let deadline = Instant::now() + self.shared.timeouts.handshake;
        // On the heap, and gone before the requests are served: a handshake's state is large, and idle connections are
        // many.
        let mut asked_for = None;
        let handshake = Box::pin(timeout_at(deadline, self.handshaker.accept(stream, &mut asked_for))).await;
        let established = match handshake.unwrap_or(Err(HandshakeError::TimedOut)) {
            Ok(established) => established,
            Err(error) => {
                self.shared.metrics.handshake(HandshakeResult::from(&error));
                self.shared.complaints.handshakes.failed(remote, asked_for.as_deref(), &error);
                return;
            }
        };
        let resumed = established.handshake.resumed;
        self.shared.metrics.handshake(if resumed { HandshakeResult::Resumed } else { HandshakeResult::Full });
        let connection = ClientConnection {
            remote,
            local,
            protocol: established.protocol,
            sni: established.sni,
            handshake: established.handshake,
        };
        let sites = Arc::clone(&self.shared.sites);
        self.forwarder.serve(established.stream, connection, sites, self.shutdown.clone()).await;
    }
}

/// Counts a connection while it lives, also if it panics.
struct Counted<'a> {
    metrics: &'a Metrics,
    _permit: OwnedSemaphorePermit,
}

impl<'a> Counted<'a> {
    fn new(metrics: &'a Metrics, permit: OwnedSemaphorePermit) -> Self {
        metrics.accepted();
        Self { metrics, _permit: permit }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.closed();
    }
}

/// Says once if nobody can sign soon after the start. Nothing ends for it: engines may come later.
async fn warn_if_not_ready(keys: Arc<dyn KeySource>) {
    sleep(START_PATIENCE).await;
    let signers = keys.signers();
    if !is_ready(&signers) {
        let states: Vec<_> =
            signers.iter().map(|signer| format!("{}: {}", signer.name, signer.state)).collect();
        tracing::warn!(
            engines = states.join("; "),
            "no engine can be asked: new handshakes fail until one can"
        );
    }
}

/// What `future` returns, or `None` if `event` comes first.
async fn unless<T>(event: impl Future<Output = ()>, future: impl Future<Output = Option<T>>) -> Option<T> {
    let (event, future) = (pin!(event), pin!(future));
    tokio::select! {
        biased;
        outcome = future => outcome,
        () = event => None,
    }
}

/// The process or the system has no room, which trying again at once would not change.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
