use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustls::sign::CertifiedKey;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::chain::{Chain, ChainError};
use crate::config::{Config, SiteSettings};
use crate::handshake::WatchedKey;
use crate::keys::{KeyError, KeySource};
use crate::listener;
use crate::metrics::Metrics;
use crate::notify::notify;
use crate::process;
use crate::shutdown::{Shutdown, ShutdownHandle};
use crate::sites::{Handler, Site, Sites, Upstream};
use crate::tls::{Certificates, NeverChosen, Tls};
use crate::views::{Questions, Views};
use crate::worker::{self, Complaints, Shared};

/// A proxy that holds its ports and serves nobody yet.
pub struct Proxy {
    shared: Arc<Shared>,
    /// For each worker, one listener for each address, and what it will be asked.
    workers: Vec<(Vec<TcpListener>, Questions)>,
    admin: Option<TcpListener>,
    addresses: Vec<SocketAddr>,
    pid_file: Option<PidFile>,
}

/// What a [`Proxy`] is made of.
pub struct ProxyBuilder {
    config: Config,
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
    /// An address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
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
        matches!(self, Self::Chain { .. } | Self::Key { .. } | Self::Certificates { .. })
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
        ProxyBuilder { config, keys, handlers: Vec::new() }
    }

    /// The addresses that it listens on, in the configuration's order, with the ports that it got.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin listener's address, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until SIGTERM or SIGINT, and drains. A second signal ends the drain at once.
    ///
    /// Calls `serving` once the workers run and signals are caught. Raises the process's limit of open files.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a worker can't start or fails.
    pub fn run(self, serving: impl FnOnce()) -> Result<(), RunError> {
        process::raise_file_limit(self.shared.limits.connections);
        let (handle, shutdown) = Shutdown::new();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
        let mut signals = {
            let _guard = runtime.enter();
            Signals::new().map_err(RunError::Start)?
        };
        let running = self.start(&shutdown)?;
        serving();
        runtime.block_on(async {
            let Running { workers, mut ended } = running;
            tokio::select! {
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
            workers.join()
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
        let mut admin = self.admin;
        for (number, (listeners, questions)) in self.workers.into_iter().enumerate() {
            let (shared, shutdown, alive) = (Arc::clone(&self.shared), shutdown.clone(), alive.clone());
            let admin = admin.take();
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // Dropped however the thread ends.
                let _ended = Ended(alive);
                worker::run(shared, number, listeners, questions, admin, shutdown)
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

    /// Loads the certificates and takes the ports. Engines need not be there.
    ///
    /// # Errors
    ///
    /// [`StartError`]; no port is held then.
    pub fn bind(self) -> Result<Proxy, StartError> {
        let mut sites = Sites::new();
        for settings in &self.config.sites {
            sites.add(self.site(settings)?);
        }
        if sites.is_empty() {
            tracing::warn!("no [[site]] is configured: every client will be refused");
        }
        if let Some(host) = &self.config.tls.default_site {
            sites.set_default(host);
        }
        let sites = Arc::new(sites);
        let tls = Arc::new(Tls::new(&sites).map_err(StartError::Tls)?);
        let Config { proxy, timeouts, limits, .. } = self.config;
        let count = match proxy.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };

        let mut workers: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        let failed = |address| move |source| StartError::Listen { address, source };
        for address in proxy.listen {
            let listeners = listener::bind(address, count).map_err(failed(address))?;
            addresses.extend(listeners.first().and_then(|listener| listener.local_addr().ok()));
            for (worker, listener) in workers.iter_mut().zip(listeners) {
                worker.push(listener);
            }
        }
        let admin = match proxy.admin_listen {
            Some(address) => listener::bind(address, 1).map_err(failed(address))?.pop(),
            None => None,
        };
        let pid_file = proxy.pid_file.map(PidFile::write).transpose()?;
        let (views, questions) = Views::new(count);
        let workers = workers.into_iter().zip(questions).collect();
        let shared = Arc::new(Shared {
            tls,
            sites,
            keys: self.keys,
            metrics: Arc::new(Metrics::default()),
            views,
            connections: Arc::new(Semaphore::new(limits.connections)),
            fibers: Arc::new(Semaphore::new(limits.handshakes)),
            complaints: Complaints::new(),
            timeouts,
            limits,
        });
        Ok(Proxy { shared, workers, admin, addresses, pid_file })
    }

    fn site(&self, settings: &SiteSettings) -> Result<Site, StartError> {
        let name = || settings.host.first().map(ToString::to_string).unwrap_or_default();
        let certificates = settings.cert.iter().map(|path| {
            let chain = Chain::load(path).map_err(|source| StartError::Chain { site: name(), source })?;
            self.certified_key(&chain).map_err(|source| StartError::Key { site: name(), source })
        });
        let certificates =
            Certificates::several(certificates.collect::<Result<_, _>>()?).map_err(|source| {
                StartError::Certificates { site: name(), path: settings.cert[source.at].clone(), source }
            })?;
        let handler = self
            .handlers
            .iter()
            .find(|(host, _)| settings.host.iter().any(|pattern| pattern.as_str() == host.as_str()));
        let upstream = match handler {
            Some((_, handler)) => Upstream::Handler(handler.clone()),
            None => Upstream::Http(settings.to.clone()),
        };
        let policy = self.config.tls.policy(settings);
        Ok(Site { policy, ..Site::new(settings.host.clone(), certificates, upstream) })
    }

    fn certified_key(&self, chain: &Chain) -> Result<Arc<CertifiedKey>, KeyError> {
        let key = self.keys.signing_key(chain.spki())?;
        let certified_key = CertifiedKey::new(chain.certificates().to_vec(), Arc::new(WatchedKey(key)));
        if matches!(certified_key.keys_match(), Err(rustls::Error::InconsistentKeys(reason))
            if reason == rustls::InconsistentKeys::KeyMismatch)
        {
            return Err(KeyError::Mismatch);
        }
        Ok(Arc::new(certified_key))
    }
}

struct Running {
    workers: Workers,
    /// A message for each worker that ended.
    ended: mpsc::UnboundedReceiver<()>,
}

struct Workers {
    threads: Vec<thread::JoinHandle<io::Result<()>>>,
    /// Removed when the last worker has ended.
    _pid_file: Option<PidFile>,
}

impl Workers {
    /// Waits for all of them, and returns the first failure.
    fn join(self) -> Result<(), RunError> {
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

struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody listens in `run_until`.
        let _ = self.0.send(());
    }
}

/// All workers have ended: each had a sender.
async fn drained(ended: &mut mpsc::UnboundedReceiver<()>) {
    while ended.recv().await.is_some() {}
}

/// A worker ended although nobody asked: the others shall drain, and the service manager start anew.
async fn first_end(ended: &mut mpsc::UnboundedReceiver<()>, handle: &ShutdownHandle) {
    let _ = ended.recv().await;
    handle.request();
    drained(ended).await;
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A file with our process id; removed at the end, unless another process has written its own by then.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self, StartError> {
        match std::fs::write(&path, Self::content()) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(StartError::PidFile { path, source }),
        }
    }

    fn content() -> String {
        format!("{}\n", std::process::id())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else removed it, or its directory: fine.
        if std::fs::read_to_string(&self.0).is_ok_and(|content| content == Self::content()) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
