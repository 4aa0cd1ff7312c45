use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why `hsm-proxy dev` could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// The state directory can't be made or entered.
    #[error("can't keep anything in {}: {source}; choose another --state-dir", .path.display())]
    StateDir {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the state directory can't be used.
    #[error("can't use {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Unix sockets have short names.
    #[error("{} is too long for a Unix socket (at most {limit} bytes): choose a shorter --state-dir", .path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Longest one.
        limit: usize,
    },
    /// Another `dev` runs there.
    #[error("process {pid} already runs here ({} is locked): stop it, or choose another --state-dir", .lock.display())]
    InUse {
        /// The lock.
        lock: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// The address is taken, or not this machine's.
    #[error("can't listen on {address}: {source}; choose another --listen, port 0 takes a free one")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system's random generator failed.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// There is no engine program.
    #[error("hsm-engine is neither beside {} nor on PATH: build it with `cargo build --release -p hsm-engine`, or let `cargo xtask dev` build everything", .beside.display())]
    NoEngineProgram {
        /// This program's directory.
        beside: PathBuf,
    },
    /// The engines did not come up.
    #[error("the engines are not up: {reason}; their log is {}", .log.display())]
    EnginesNotUp {
        /// What was seen.
        reason: String,
        /// Where to look.
        log: PathBuf,
    },
    /// The engines refused something while the cluster was being set up.
    #[error("{doing}: {source}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// What the client says.
        source: keycore_client::Error,
    },
    /// A certificate could not be made.
    #[error("making the certificate: {0}")]
    Certificate(#[from] hsm_certs::Error),
    /// The proxy itself could not start.
    #[error("{0}")]
    Proxy(Box<dyn std::error::Error + Send + Sync>),
}

impl DevError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn proxy(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Proxy(Box::new(error))
    }

    /// For `map_err` on the engine client's calls.
    pub(super) fn engine(doing: &'static str) -> impl FnOnce(keycore_client::Error) -> Self {
        move |source| Self::Engine { doing, source }
    }
}
