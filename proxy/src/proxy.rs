mod pid_file;
mod running;
mod signals;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::capacity::Capacity;
use crate::chain::ChainError;
use crate::config::Config;
use crate::generation::{Foundation, Generation};
use crate::http_policy::ErrorPageError;
use crate::keys::{KeyError, KeySource};
use crate::listener;
use crate::metrics::Metrics;
use crate::notify::notify;
use crate::process;
use crate::reload::{self, Listening, Parts, Reloader};
use crate::shutdown::Shutdown;
use crate::sites::Handler;
use crate::tls::{NeverChosen, TicketKeys};
use crate::upstream::TrustError;
use crate::views::Views;
use crate::worker::{self, Complaints, Order, Post, Shared};

use pid_file::PidFile;
use running::{Ended, Running, Workers, drained, first_end};
use signals::Signals;

/// A proxy that holds its ports and serves nobody yet.
pub struct Proxy {
    shared: Arc<Shared>,
    workers: Vec<Post>,
    admin: Option<SocketAddr>,
    addresses: Vec<SocketAddr>,
    pid_file: Option<PidFile>,
    reloader: Reloader,
    config_file: Option<PathBuf>,
}

/// What a [`Proxy`] is made of.
pub struct ProxyBuilder {
    config: Config,
    config_file: Option<PathBuf>,
    keys: Arc<dyn KeySource>,
    handlers: Vec<(String, Handler)>,
}

/// Why a proxy can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A site's certificate can't be used.
    #[error("site {site}: {source}")]
    Chain {
        /// Its first host.
        site: String,
        /// Why.
        source: ChainError,
    },
    /// A site's key can't be used.
    #[error("site {site}: {source}")]
    Key {
        /// Its first host.
        site: String,
        /// Why.
        source: KeyError,
    },
    /// A site has two certificates of which one is enough.
    #[error("site {site}: {}: {source}", .path.display())]
    Certificates {
        /// Its first host.
        site: String,
        /// The certificate that is of no use.
        path: PathBuf,
        /// Why.
        source: NeverChosen,
    },
    /// A site's error pages can't be used.
    #[error("site {site}: error-pages: {source}")]
    ErrorPage {
        /// Its first host.
        site: String,
        /// Why.
        source: ErrorPageError,
    },
    /// The certificates of an upstream's servers can't be verified.
    #[error("upstream {upstream}: {source}")]
    Upstream {
        /// Its name, or its only server.
        upstream: String,
        /// Why.
        source: TrustError,
    },
    /// An address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The access log can't be opened.
    #[error("[log] access: can't open {}: {source}", .path.display())]
    AccessLog {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process id can't be written.
    #[error("can't write {}: {source}", .path.display())]
    PidFile {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS can't be set up.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
}

impl StartError {
    /// Whether the configuration, or a file that it names, has to change; else the system's state has.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::ErrorPage { .. }
                | Self::Chain { .. }
                | Self::Key { .. }
                | Self::Certificates { .. }
                | Self::Upstream { .. }
        )
    }
}

/// Why a proxy stopped serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A thread, or its runtime, could not be started.
    #[error("can't start a worker: {0}")]
    Start(io::Error),
    /// A worker ended by itself.
    #[error("worker {worker} failed: {reason}")]
    Worker {
        /// Which, from 0.
        worker: usize,
        /// Why, in one line.
        reason: String,
    },
}

impl Proxy {
    /// Begins to make a proxy.
    pub fn builder(config: Config, keys: Arc<dyn KeySource>) -> ProxyBuilder {
        ProxyBuilder { config, config_file: None, keys, handlers: Vec::new() }
    }

    /// The addresses that it listens on, in the configuration's order, those of `redirect-listen` last, with the ports that it got.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin listener's address, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What gives it another configuration while it serves.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until SIGTERM or SIGINT, and drains. A second signal ends the drain at once.
    ///
    /// With a [configuration file](ProxyBuilder::config_file), reloads it on SIGHUP, and when it or a file that it names has
    /// changed. A configuration that can't be used changes nothing: the log and the metrics say so.
    ///
    /// On SIGUSR1 it opens its access log anew.
    ///
    /// Calls `serving` once the workers run and signals are caught. Raises the process's limit of open files.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a worker can't start or fails.
    pub fn run(self, serving: impl FnOnce()) -> Result<(), RunError> {
        process::raise_file_limit(self.shared.generation.borrow().limits.connections);
        let (handle, shutdown) = Shutdown::new();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
        let mut signals = {
            let _guard = runtime.enter();
            Signals::new().map_err(RunError::Start)?
        };
        let reopening = {
            let _guard = runtime.enter();
            let reopen = signal(SignalKind::user_defined1()).map_err(RunError::Start)?;
            reopen_log(self.shared.generation.clone(), reopen)
        };
        let generation = self.shared.generation.clone();
        let reloads = match &self.config_file {
            Some(file) => {
                let _guard = runtime.enter();
                let hangup = signal(SignalKind::hangup()).map_err(RunError::Start)?;
                Some(reload::follow(self.reloader(), file.clone(), hangup))
            }
            // SIGHUP ends it: its terminal is gone.
            None => None,
        };
        let running = self.start(&shutdown)?;
        serving();
        runtime.block_on(async {
            let Running { workers, mut ended } = running;
            tokio::select! {
                () = follow(reloads) => {}
                () = reopening => {}
                () = signals.next() => {
                    tracing::info!("draining");
                    handle.request();
                    notify("STOPPING=1");
                    tokio::select! {
                        () = drained(&mut ended) => {}
                        () = signals.next() => {
                            tracing::warn!("a second signal: connections are cut off");
                            drop(workers); // with the file of the process id
                            std::process::exit(130);
                        }
                    }
                }
                () = first_end(&mut ended, &handle) => {}
            }
            let ended = workers.join();
            let access_log = generation.borrow().access_log.clone();
            if let Some(access_log) = access_log {
                access_log.finish();
            }
            ended
        })
    }

    /// Serves until `shutdown` is requested, and drains. Signals are the caller's.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a worker can't start or fails.
    pub fn run_until(self, shutdown: &Shutdown) -> Result<(), RunError> {
        self.start(shutdown)?.workers.join()
    }

    fn start(self, shutdown: &Shutdown) -> Result<Running, RunError> {
        let (alive, ended) = mpsc::unbounded_channel();
        let mut workers = Workers { threads: Vec::new(), _pid_file: self.pid_file };
        for post in self.workers {
            let (shared, shutdown, alive) = (Arc::clone(&self.shared), shutdown.clone(), alive.clone());
            let thread = thread::Builder::new().name(format!("worker-{}", post.number)).spawn(move || {
                // Dropped however the thread ends.
                let _ended = Ended(alive);
                worker::run(shared, post, shutdown)
            });
            workers.threads.push(thread.map_err(RunError::Start)?);
        }
        notify("READY=1");
        for address in &self.addresses {
            tracing::info!(%address, workers = workers.threads.len(), "serving");
        }
        Ok(Running { workers, ended })
    }
}

impl ProxyBuilder {
    /// Lets code of this process answer the requests of the site that has `host`, instead of its upstream.
    #[must_use]
    pub fn handler(mut self, host: &str, handler: Handler) -> Self {
        self.handlers.push((host.to_owned(), handler));
        self
    }

    /// The file that the configuration came from: it is reloaded from there.
    #[must_use]
    pub fn config_file(self, path: PathBuf) -> Self {
        Self { config_file: Some(path), ..self }
    }

    /// Loads the certificates and takes the ports. Engines need not be there.
    ///
    /// # Errors
    ///
    /// [`StartError`]; no port is held then.
    pub fn bind(self) -> Result<Proxy, StartError> {
        let Self { config, config_file, keys, handlers } = self;
        let metrics = Arc::new(Metrics::default());
        let tickets = TicketKeys::new().map_err(StartError::Tls)?;
        let foundation = Foundation {
            keys: Arc::clone(&keys),
            handlers,
            tickets: Arc::clone(&tickets),
            metrics: Arc::clone(&metrics),
        };
        let generation = foundation.generation(&config, None)?;
        let count = match config.proxy.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };

        let (orders, to_workers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let mut listening = Vec::new();
        let failed = |address| move |source| StartError::Listen { address, source };
        for (configured, entrance) in config.proxy.entrances() {
            let listeners = listener::bind(configured, count).map_err(failed(configured))?;
            let actual = listeners.first().and_then(|listener| listener.local_addr().ok());
            listening.push(Listening { configured, actual: actual.unwrap_or(configured), entrance });
            for (orders, listener) in orders.iter().zip(listeners) {
                // The receiver is at hand: it is received when the worker starts.
                let _ = orders.send(Order::Listen(listener, entrance));
            }
        }
        let mut admin = match config.proxy.admin_listen {
            Some(address) => listener::bind(address, 1).map_err(failed(address))?.pop(),
            None => None,
        };
        let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let pid_file = config.proxy.pid_file.clone().map(PidFile::write).transpose()?;

        let (views, questions) = Views::new(count);
        let posts = to_workers.into_iter().zip(questions).enumerate();
        let workers = posts
            .map(|(number, (orders, questions))| Post { number, orders, questions, admin: admin.take() })
            .collect();
        let connections = Capacity::new(config.limits.connections);
        let fibers = Capacity::new(config.limits.handshakes);
        let (generation, current) = watch::channel(Arc::new(generation));
        let shared = Arc::new(Shared {
            generation: current,
            keys,
            tickets,
            metrics,
            views,
            connections: connections.clone(),
            fibers: fibers.clone(),
            complaints: Complaints::new(),
        });
        let addresses = listening.iter().map(|listening| listening.actual).collect();
        let parts = Parts { foundation, generation, connections, fibers, workers: orders, listening };
        let reloader = Reloader::new(config, parts);
        Ok(Proxy { shared, workers, admin: admin_address, addresses, pid_file, reloader, config_file })
    }
}

/// Never completes: there may be nothing to follow.
async fn follow(reloads: Option<impl Future<Output = ()>>) {
    match reloads {
        Some(reloads) => reloads.await,
        None => std::future::pending().await,
    }
}

/// Never ends.
async fn reopen_log(generation: watch::Receiver<Arc<Generation>>, mut reopen: Signal) {
    loop {
        reopen.recv().await;
        let access_log = generation.borrow().access_log.clone();
        if let Some(access_log) = access_log {
            access_log.reopen().await;
            tracing::info!("SIGUSR1: the access log is opened anew");
        }
    }
}
