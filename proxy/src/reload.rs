//! Another configuration, without a restart: new connections get it, open ones keep theirs.

mod files;
mod follow;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::capacity::Capacity;
use crate::config::{Config, Entrance};
use crate::generation::{Foundation, Generation};
use crate::listener;
use crate::proxy::StartError;
use crate::worker::{Closed, Order};

pub(crate) use follow::{Watched, follow};

/// How long workers may take to close sockets.
const CLOSING: Duration = Duration::from_secs(5);

/// Replaces what a running proxy serves by. Clones do so for the same proxy.
#[derive(Clone)]
pub struct Reloader {
    inner: Arc<Inner>,
}

struct Inner {
    foundation: Foundation,
    generation: watch::Sender<Arc<Generation>>,
    connections: Capacity,
    fibers: Capacity,
    workers: Vec<mpsc::UnboundedSender<Order>>,
    /// Held during a reload: they come one after the other.
    state: Mutex<State>,
}

struct State {
    /// The one that the process began with, for what only a restart changes.
    first: Config,
    listening: Vec<Listening>,
}

/// An address that the workers listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    /// As the configuration has it.
    pub(crate) configured: SocketAddr,
    /// With the port that it got.
    pub(crate) actual: SocketAddr,
    pub(crate) entrance: Entrance,
}

/// What a reload takes from what was there before it, apart from the configuration.
pub(crate) struct Parts {
    pub(crate) foundation: Foundation,
    pub(crate) generation: watch::Sender<Arc<Generation>>,
    pub(crate) connections: Capacity,
    pub(crate) fibers: Capacity,
    pub(crate) workers: Vec<mpsc::UnboundedSender<Order>>,
    pub(crate) listening: Vec<Listening>,
}

impl Reloader {
    pub(crate) fn new(first: Config, parts: Parts) -> Self {
        let Parts { foundation, generation, connections, fibers, workers, listening } = parts;
        let state = Mutex::new(State { first, listening });
        Self { inner: Arc::new(Inner { foundation, generation, connections, fibers, workers, state }) }
    }

    /// Serves new connections by this configuration: its sites, certificates, timeouts, limits and addresses. Open
    /// connections go on as they began, and nobody who is connecting is dropped.
    ///
    /// Blocks while it reads certificates. Returns the keys that were changed and stay as they are until a restart.
    ///
    /// # Errors
    ///
    /// [`StartError`]; everything is as before then.
    pub fn reload(&self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        let inner = &*self.inner;
        let outcome = inner.reload(config);
        match &outcome {
            Ok(_) => inner.foundation.metrics.reloads.succeeded(inner.generation.borrow().stale),
            Err(_) => inner.foundation.metrics.reloads.failed(),
        }
        outcome
    }

    /// Lets workers accept connections.
    pub(crate) fn listen(&self, listeners: Vec<(usize, TcpListener, Entrance)>) {
        for (worker, listener, entrance) in listeners {
            self.inner.order(worker, Order::Listen(listener, entrance));
        }
    }

    /// Copies of all sockets that the workers listen on, the admin's too.
    pub(crate) async fn sockets(&self) -> Vec<TcpListener> {
        let (to, mut copies) = mpsc::unbounded_channel();
        (0..self.inner.workers.len()).for_each(|worker| self.inner.order(worker, Order::Share(to.clone())));
        drop(to);
        let mut sockets = Vec::new();
        // Until all workers have answered.
        while let Some(socket) = copies.recv().await {
            sockets.push(socket);
        }
        sockets
    }

    /// Lets nobody of this process listen there any more.
    pub(crate) fn close(&self, address: SocketAddr) {
        self.inner.close(address, &std::sync::mpsc::channel().0);
    }

    /// The file has no configuration in it.
    fn is_unusable(&self) {
        self.inner.foundation.metrics.reloads.failed();
    }
}

impl Inner {
    fn reload(&self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        let mut state = self.state();
        let previous = Arc::clone(&self.generation.borrow());
        let generation = self.foundation.generation(config, Some(&previous))?;
        let mut closed = state.listening.clone();
        let mut listening = Vec::new();
        let mut opened: Vec<(TcpListener, Entrance)> = Vec::new();
        for (configured, entrance) in config.proxy.entrances() {
            let is_it = |known: &Listening| known.configured == configured && known.entrance == entrance;
            if let Some(at) = closed.iter().position(is_it) {
                listening.push(closed.swap_remove(at));
                continue;
            }
            let failed = |source| StartError::Listen { address: configured, source };
            let listeners = listener::bind(configured, self.workers.len()).map_err(failed)?;
            let actual =
                listeners.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(configured);
            listening.push(Listening { configured, actual, entrance });
            opened.extend(listeners.into_iter().map(|listener| (listener, entrance)));
        }
        // From here on nothing fails.
        self.connections.resize(generation.limits.connections);
        self.fibers.resize(generation.limits.handshakes);
        self.generation.send_replace(Arc::new(generation));
        for (at, (listener, entrance)) in opened.into_iter().enumerate() {
            self.order(at % self.workers.len(), Order::Listen(listener, entrance));
        }
        let (all_closed, closing) = std::sync::mpsc::channel();
        for address in &closed {
            self.close(address.actual, &all_closed);
        }
        drop(all_closed);
        // So that the next reload may listen there again. A worker that hangs does not hold it up.
        let _ = closing.recv_timeout(CLOSING);
        state.listening = listening;
        Ok(needs_restart(&state.first, config))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic during a reload left at worst a listener that nobody knows of.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, address: SocketAddr, closed: &Closed) {
        for worker in 0..self.workers.len() {
            self.order(worker, Order::Close(address, closed.clone()));
        }
    }

    fn order(&self, worker: usize, order: Order) {
        // A worker that has ended takes none: the proxy drains.
        let _ = self.workers[worker].send(order);
    }
}

/// The keys that differ and that a reload does not touch.
fn needs_restart(first: &Config, now: &Config) -> Vec<&'static str> {
    let (proxy, then) = (&now.proxy, &first.proxy);
    [
        ("proxy.workers", proxy.workers != then.workers),
        ("proxy.pid-file", proxy.pid_file != then.pid_file),
        ("proxy.admin-listen", proxy.admin_listen != then.admin_listen),
        ("[hsm]", now.hsm != first.hsm),
        ("timeouts.sign", now.timeouts.sign != first.timeouts.sign),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
