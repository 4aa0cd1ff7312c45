//! One worker: a thread with a single-threaded runtime, its own listening sockets, connections and upstreams.

mod client;
mod passed;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use handshake_fiber::StackPool;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::access_log::Lines;
use crate::acme::Challenges;
use crate::admin::Admin;
use crate::capacity::Capacity;
use crate::config::Entrance;
use crate::forward::Forwarder;
use crate::generation::Generation;
use crate::handshake::{FailureLog, Handshaker, SigningBudget};
use crate::journal::Journal;
use crate::keys::KeySource;
use crate::listener;
use crate::metrics::Metrics;
use crate::passthrough::Passthrough;
use crate::shutdown::{Shutdown, ShutdownHandle};
use crate::throttle::Throttle;
use crate::tls::TicketKeys;
use crate::traces::Tracer;
use crate::upstream::{Addresses, check_health};
use crate::views::{Questions, Views, is_ready};

use client::Door;

/// Stacks that a worker keeps for the next burst of handshakes: 32 MiB of address space, about a third of it resident.
const IDLE_STACKS: usize = 256;

/// How long a worker leaves the kernel's queue alone when there is no file descriptor for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Generations before the current one whose connections go on as long as they like. When there are more, those of the
/// oldest finish their requests and are closed, so that reloads can't fill the memory.
const EARLIER_GENERATIONS: usize = 8;

/// How long engines may take to connect and log in before the log says that none did.
const START_PATIENCE: Duration = Duration::from_secs(3);

/// What all workers share.
pub(crate) struct Shared {
    /// What new connections are served by.
    pub(crate) generation: watch::Receiver<Arc<Generation>>,
    pub(crate) keys: Arc<dyn KeySource>,
    pub(crate) tickets: Arc<TicketKeys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) views: Views,
    /// Room for connections.
    pub(crate) connections: Capacity,
    /// Room for handshakes.
    pub(crate) fibers: Capacity,
    pub(crate) complaints: Complaints,
}

/// Dropped when something is closed, by whoever closes it last.
pub(crate) type Closed = std::sync::mpsc::Sender<Infallible>;

/// What a worker is told while it runs.
pub(crate) enum Order {
    /// Accept connections here, too.
    Listen(StdListener, Entrance),
    /// Take those that wait at this address, and accept no more there.
    /// The sender is dropped when the sockets are closed.
    Close(SocketAddr, Closed),
    /// Send copies of the sockets that are listened on.
    Share(mpsc::UnboundedSender<StdListener>),
}

/// A worker's share of what a proxy holds before it serves.
pub(crate) struct Post {
    pub(crate) number: usize,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) questions: Questions,
    /// The admin listener, for one of the workers.
    pub(crate) admin: Option<StdListener>,
}

/// Log lines that would come with every connection.
pub(crate) struct Complaints {
    full: Throttle,
    accept: Throttle,
    refused: Throttle,
    passthroughs: Throttle,
    pub(crate) handshakes: FailureLog,
}

impl Complaints {
    pub(crate) fn new() -> Self {
        Self {
            full: Throttle::new(),
            accept: Throttle::new(),
            refused: Throttle::new(),
            passthroughs: Throttle::new(),
            handshakes: FailureLog::new(),
        }
    }
}

/// Serves what it is ordered to on the calling thread, until the drain has ended.
///
/// # Errors
///
/// If the thread gets no runtime or can't watch its sockets.
pub(crate) fn run(shared: Arc<Shared>, post: Post, shutdown: Shutdown) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    // What the drain leaves behind ends with `local`: suspended handshakes are unwound here, on their thread.
    local.block_on(&runtime, async move {
        let Post { number, orders, questions, admin } = post;
        shared.keys.start_worker();
        tokio::task::spawn_local(questions.answer(Arc::clone(&shared.keys)));
        if number == 0 {
            tokio::task::spawn_local(warn_if_not_ready(Arc::clone(&shared.keys)));
            let (tickets, generation) = (Arc::clone(&shared.tickets), shared.generation.clone());
            tokio::task::spawn_local(tickets.follow(generation, Arc::clone(&shared.keys)));
            tokio::task::spawn_local(check_health(shared.generation.clone()));
        }
        let worker = Worker::new(Arc::clone(&shared), shutdown);
        let served = worker.serve(orders, admin).await;
        shared.keys.stop_worker();
        served
    })
}

/// A socket that connections are accepted on.
struct Listening {
    /// For whoever takes over.
    copy: StdListener,
    handle: ShutdownHandle,
    /// Kept by whoever accepts until the socket is closed.
    closed: Rc<Cell<Option<Closed>>>,
}

impl Listening {
    fn stop(self) {
        // First: a socket that stays open would go on to attract clients.
        drop(self.copy);
        self.handle.request();
    }
}

fn is_at(listener: &StdListener, address: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|local| local == address)
}

struct Worker {
    shared: Arc<Shared>,
    handshaker: Handshaker,
    current: RefCell<Current>,
    shutdown: Shutdown,
}

struct Current {
    news: watch::Receiver<Arc<Generation>>,
    serving: Rc<Serving>,
    /// Those that were replaced and still have connections, the oldest first.
    earlier: VecDeque<Weak<Serving>>,
}

/// A generation, as one worker serves it.
struct Serving {
    generation: Arc<Generation>,
    forwarder: Rc<Forwarder>,
    journal: Rc<Journal>,
    /// Tells its connections to finish.
    retire: ShutdownHandle,
    retired: Shutdown,
    /// Of the servers of passthroughs.
    addresses: RefCell<HashMap<*const Passthrough, Rc<Addresses>>>,
}

impl Serving {
    /// Keeps the connections to the upstreams of `before` if they are made as the generation says.
    fn new(generation: Arc<Generation>, metrics: &Arc<Metrics>, before: Option<&Self>) -> Self {
        let same = before.filter(|before| {
            let before = &before.generation;
            before.limits == generation.limits && before.timeouts == generation.timeouts
        });
        let forwarder = match same {
            Some(before) => Rc::clone(&before.forwarder),
            None => Rc::new(Forwarder::new(&generation.limits, &generation.timeouts, &generation.clients)),
        };
        let lines = generation.access_log.as_ref().map(|log| Lines::new(Arc::clone(log)));
        let tracer = generation.traces.as_ref().map(|traces| Tracer::new(Arc::clone(traces)));
        let journal = Rc::new(Journal::new(Arc::clone(metrics), lines, tracer));
        let (retire, retired) = Shutdown::new();
        Self { generation, forwarder, journal, retire, retired, addresses: RefCell::default() }
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, shutdown: Shutdown) -> Rc<Self> {
        let metrics = &shared.metrics;
        let budget = SigningBudget::new(shared.views.workers(), Arc::clone(metrics));
        let stacks = StackPool::new(IDLE_STACKS);
        let handshaker = Handshaker::new(stacks, shared.fibers.clone(), budget, Arc::clone(metrics));
        let mut news = shared.generation.clone();
        let generation = Arc::clone(&news.borrow_and_update());
        let serving = Rc::new(Serving::new(generation, &shared.metrics, None));
        let current = RefCell::new(Current { news, serving, earlier: VecDeque::new() });
        Rc::new(Self { shared, handshaker, current, shutdown })
    }

    /// What a connection that comes now is served by.
    fn serving(&self) -> Rc<Serving> {
        let mut current = self.current.borrow_mut();
        let Current { news, serving, earlier } = &mut *current;
        // An error means that nobody can reload any more.
        if news.has_changed().unwrap_or(false) {
            let generation = Arc::clone(&news.borrow_and_update());
            let next = Rc::new(Serving::new(generation, &self.shared.metrics, Some(serving)));
            if self.shutdown.is_requested() {
                next.retire.request();
            }
            let replaced = std::mem::replace(serving, next);
            earlier.push_back(Rc::downgrade(&replaced));
            drop(replaced);
            earlier.retain(|serving| serving.strong_count() > 0);
            for oldest in earlier.iter().rev().skip(EARLIER_GENERATIONS).filter_map(Weak::upgrade) {
                oldest.retire.request();
            }
        }
        Rc::clone(serving)
    }

    /// Tells the connections of all generations to finish.
    fn retire_all(&self) {
        let current = self.current.borrow();
        current.serving.retire.request();
        for serving in current.earlier.iter().filter_map(Weak::upgrade) {
            serving.retire.request();
        }
    }

    /// Lets go of a generation that was replaced, also while nobody connects.
    async fn follow_reloads(self: Rc<Self>) {
        let mut news = self.shared.generation.clone();
        while news.changed().await.is_ok() {
            self.serving();
        }
    }

    async fn serve(
        self: Rc<Self>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        admin: Option<StdListener>,
    ) -> io::Result<()> {
        // Each connection holds a sender; when all are gone, the receiver hears of it.
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
        let mut admin = match admin {
            Some(listener) => Some(self.serve_admin(listener)?),
            None => None,
        };
        let following = tokio::task::spawn_local(Rc::clone(&self).follow_reloads());
        let mut listening = HashMap::<SocketAddr, Vec<Listening>>::new();
        let mut accepting = JoinSet::new();
        let mut shutdown = self.shutdown.clone();
        loop {
            let order = tokio::select! {
                biased;
                // Those that were given before the drain began are carried out first.
                Some(order) = orders.recv() => order,
                () = shutdown.requested() => break,
            };
            match order {
                Order::Listen(listener, entrance) => {
                    let (address, copy) = (listener.local_addr()?, listener.try_clone()?);
                    let listener = TcpListener::from_std(listener)?;
                    let (handle, stop) = Shutdown::new();
                    let closed = Rc::new(Cell::new(None));
                    accepting.spawn_local(Rc::clone(&self).accept_all(
                        Rc::clone(&closed),
                        listener,
                        entrance,
                        stop,
                        alive.clone(),
                    ));
                    listening.entry(address).or_default().push(Listening { copy, handle, closed });
                }
                Order::Close(address, closed) => {
                    for listening in listening.remove(&address).into_iter().flatten() {
                        listening.closed.set(Some(closed.clone()));
                        listening.stop();
                    }
                    if let Some((_, task)) = admin.take_if(|(copy, _)| is_at(copy, address)) {
                        task.abort();
                    }
                }
                Order::Share(to) => {
                    let copies = listening.values().flatten().map(|listening| &listening.copy);
                    for copy in copies.chain(admin.as_ref().map(|(copy, _)| copy)) {
                        // Whoever asked may have lost patience.
                        let _ = to.send(copy.try_clone()?);
                    }
                }
            }
        }
        drop(alive);
        self.retire_all();
        listening.into_values().flatten().for_each(Listening::stop);
        while let Some(ended) = accepting.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        following.abort();
        // From here on it drains.
        let patience = self.serving().generation.timeouts.drain;
        if timeout(patience, all_gone.recv()).await.is_err() {
            tracing::warn!("connections that did not end within timeouts.drain are cut off");
        }
        Ok(())
    }

    /// Serves the admin's requests; with a copy of the socket.
    fn serve_admin(&self, listener: StdListener) -> io::Result<(StdListener, JoinHandle<()>)> {
        let copy = listener.try_clone()?;
        let admin = Admin::new(TcpListener::from_std(listener)?, Arc::clone(&self.shared));
        Ok((copy, tokio::task::spawn_local(admin.serve(self.shutdown.clone()))))
    }

    /// Accepts until it is to stop, and then those whom the kernel holds already.
    async fn accept_all(
        self: Rc<Self>,
        // Dropped after the listener, which stands behind it.
        _closed: Rc<Cell<Option<Closed>>>,
        listener: TcpListener,
        entrance: Entrance,
        mut stop: Shutdown,
        alive: mpsc::Sender<Infallible>,
    ) {
        let door = Door::new(entrance, &listener);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.requested() => return self.accept_queued(listener, &door, &alive),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let Some(permit) = unless(stop.requested(), self.room()).await else { return };
                    self.spawn(stream, remote, &door, permit, &alive);
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
    fn accept_queued(self: &Rc<Self>, listener: TcpListener, door: &Door, alive: &mpsc::Sender<Infallible>) {
        // Without the runtime, which may not have heard of them yet.
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..listener::BACKLOG {
            let accepted = listener.accept().and_then(|(stream, remote)| {
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, remote))
            });
            match accepted {
                Ok((stream, remote)) => {
                    let Ok(permit) = self.shared.connections.try_acquire() else { return };
                    self.spawn(stream, remote, door, permit, alive);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_exhaustion(&error) => return,
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
    }

    /// Waits until the process may have another connection.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        let connections = &self.shared.connections;
        if let Ok(permit) = connections.try_acquire() {
            return Some(permit);
        }
        if let Some(held_back) = self.shared.complaints.full.pass() {
            let limit = self.serving().generation.limits.connections;
            tracing::warn!(limit, held_back, "limits.connections is reached: new connections wait");
        }
        connections.acquire().await.ok()
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
