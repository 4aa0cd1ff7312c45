mod pid_file;
mod running;
mod serve;
mod signals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, watch};

use crate::acme::Challenges;
use crate::capacity::Capacity;
use crate::chain::ChainError;
use crate::config::{Config, Entrance};
use crate::generation::Foundation;
use crate::http_policy::ErrorPageError;
use crate::keys::{KeyError, KeySource};
use crate::listener;
use crate::metrics::Metrics;
use crate::reload::{Listening, Parts, Reloader, Watched};
use crate::sites::Handler;
use crate::tls::{ClientAuthError, NeverChosen, TicketKeys};
use crate::traces::TracesError;
use crate::upgrade::{Inherited, Predecessor};
use crate::upstream::TrustError;
use crate::views::Views;
use crate::worker::{Complaints, Post, Shared};

use pid_file::PidFile;

/// A proxy that holds its ports and serves nobody yet.
pub struct Proxy {
    shared: Arc<Shared>,
    workers: Vec<Post>,
    /// To be given to the workers when they are to accept.
    listeners: Vec<(usize, TcpListener, Entrance)>,
    predecessor: Option<Predecessor>,
    admin: Option<SocketAddr>,
    addresses: Vec<SocketAddr>,
    pid_file: Option<PidFile>,
    reloader: Reloader,
    watched: Option<Watched>,
}

/// What a [`Proxy`] is made of.
pub struct ProxyBuilder {
    config: Config,
    watched: Option<Watched>,
    inherited: Inherited,
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
    /// What a site says of its clients' certificates can't be used.
    #[error("site {site}: {source}")]
    ClientAuth {
        /// Its first host.
        site: String,
        /// Why.
        source: ClientAuthError,
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
    /// Nothing can be sent to the collector of traces.
    #[error("[traces] {0}")]
    Traces(#[from] TracesError),
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
                | Self::ClientAuth { .. }
                | Self::Key { .. }
                | Self::Certificates { .. }
                | Self::Upstream { .. }
                | Self::Traces(_)
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
    /// Another process's place can't be taken.
    #[error("can't take over from the process before: {0}")]
    TakeOver(String),
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
        ProxyBuilder { config, watched: None, inherited: Inherited::default(), keys, handlers: Vec::new() }
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
}

impl ProxyBuilder {
    /// Lets code of this process answer the requests of the site that has `host`, instead of its upstream.
    #[must_use]
    pub fn handler(mut self, host: &str, handler: Handler) -> Self {
        self.handlers.push((host.to_owned(), handler));
        self
    }

    /// The file that the configuration came from, as it was before it was read: it is reloaded from there.
    pub(crate) fn config_file(self, file: Watched) -> Self {
        Self { watched: Some(file), ..self }
    }

    /// Listens on these sockets, where their addresses are configured.
    pub(crate) fn inherit(self, inherited: Inherited) -> Self {
        Self { inherited, ..self }
    }

    /// Loads the certificates and takes the ports. Engines need not be there.
    ///
    /// # Errors
    ///
    /// [`StartError`]; no port is held then.
    pub fn bind(self) -> Result<Proxy, StartError> {
        let Self { config, watched, mut inherited, keys, handlers } = self;
        let watched = watched.map(|file| file.named_by(&config));
        let metrics = Arc::new(Metrics::default());
        let tickets = TicketKeys::new().map_err(StartError::Tls)?;
        let challenges = Arc::new(Challenges::default());
        let foundation = Foundation {
            keys: Arc::clone(&keys),
            handlers,
            tickets: Arc::clone(&tickets),
            metrics: Arc::clone(&metrics),
            challenges: Arc::clone(&challenges),
        };
        let generation = foundation.generation(&config, None)?;
        let count = match config.proxy.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };

        let (orders, to_workers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let (mut listening, mut sockets) = (Vec::new(), Vec::new());
        let failed = |address| move |source| StartError::Listen { address, source };
        for (configured, entrance) in config.proxy.entrances() {
            let mut listeners = inherited.take(configured, count).map_err(failed(configured))?;
            if listeners.is_empty() {
                listeners = listener::bind(configured, count).map_err(failed(configured))?;
            }
            let actual = listeners.first().and_then(|listener| listener.local_addr().ok());
            listening.push(Listening { configured, actual: actual.unwrap_or(configured), entrance });
            let listeners = listeners.into_iter().enumerate();
            sockets.extend(listeners.map(|(at, listener)| (at % count, listener, entrance)));
        }
        let mut admin = match config.proxy.admin_listen {
            Some(address) => match inherited.take(address, 1).map_err(failed(address))?.pop() {
                Some(inherited) => Some(inherited),
                None => listener::bind(address, 1).map_err(failed(address))?.pop(),
            },
            None => None,
        };
        let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        inherited.close_rest();
        let pid_file = config.proxy.pid_file.clone().map(PidFile::new);
        if let (Some(file), None) = (&pid_file, &inherited.predecessor) {
            file.write()?;
        }

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
            challenges,
            views,
            connections: connections.clone(),
            fibers: fibers.clone(),
            complaints: Complaints::new(),
        });
        let addresses = listening.iter().map(|listening| listening.actual).collect();
        let parts = Parts { foundation, generation, connections, fibers, workers: orders, listening };
        let reloader = Reloader::new(config, parts);
        Ok(Proxy {
            shared,
            workers,
            listeners: sockets,
            predecessor: inherited.predecessor,
            admin: admin_address,
            addresses,
            pid_file,
            reloader,
            watched,
        })
    }
}
