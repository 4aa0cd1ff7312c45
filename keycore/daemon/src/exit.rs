//! Why the program ends other than as asked, and the exit status for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::ConfigError;

/// `EX_USAGE` of sysexits.h: whoever started the program has to change the command or the configuration.
pub(crate) const CONFIG: u8 = 64;

/// `EX_SOFTWARE` of sysexits.h: the configuration is fine, what it names can't be used.
pub(crate) const SOFTWARE: u8 = 70;

/// `EX_TEMPFAIL` of sysexits.h: what the program knows of its cluster is of no more use; start it anew, without that.
pub(crate) const ANEW: u8 = 75;

/// The program can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    // The configuration's fault.
    #[error("{path}: {source}", path = path.display())]
    Config { path: PathBuf, source: ConfigError },
    #[error("can't read the configuration {path}: {source}", path = path.display())]
    ConfigUnreadable { path: PathBuf, source: io::Error },
    #[error("replica {index} is not among the {replicas} of the configuration")]
    NoSuchReplica { index: u16, replicas: u16 },

    // The machine's.
    #[error("{path} is open to others (mode {mode:04o}); run: chmod {wanted:04o} {path}", path = path.display())]
    TooOpen { path: PathBuf, mode: u32, wanted: u32 },
    #[error(
        "{path} belongs to user {owner}, and the engine runs as user {engine}; run it as the owner, or chown it",
        path = path.display()
    )]
    ForeignOwner { path: PathBuf, owner: u32, engine: u32 },
    #[error("{path} is not a directory", path = path.display())]
    NotADirectory { path: PathBuf },
    #[error("can't {action} {path}: {source}", path = path.display())]
    Path { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process (its socket answers)", path = path.display())]
    SocketInUse { path: PathBuf },
    #[error("can't listen at {address}: {source}; see listen-tcp")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{what} is running already: another process holds {path}", path = path.display())]
    Running { what: String, path: PathBuf },

    // The unseal secret.
    #[error(
        "no unseal secret: set unseal-file in the configuration, or $CREDENTIALS_DIRECTORY with a file `unseal`"
    )]
    NoUnsealFile,
    #[error("the unseal secret in {path} has {length} bytes; it must have {min} to {max}", path = path.display())]
    UnsealLength { path: PathBuf, length: usize, min: usize, max: usize },

    // What the engine is made of.
    #[error("can't keep the unseal secret in locked memory: {0}")]
    Memory(#[from] keycore_secmem::SecmemError),
    #[error(transparent)]
    Store(#[from] keycore_store::StoreError),
    #[error(transparent)]
    Audit(#[from] keycore_audit::file::OpenError),
    #[error(transparent)]
    Record(#[from] keycore_audit::AuditError),
    #[error("can't open the engine: {0}")]
    Engine(#[from] keycore_engine::OpenError),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("the engine can't be confined by {means}, and sandbox = \"required\": {gap}")]
    Sandbox { means: &'static str, gap: crate::sandbox::Gap },
    #[error("no replica could start; the log says why")]
    NoReplica,
}

impl StartError {
    /// The exit status that tells who has to change something.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::ConfigUnreadable { .. } | Self::NoSuchReplica { .. } => CONFIG,
            _ => SOFTWARE,
        }
    }

    /// For `map_err` on what names a path.
    pub(crate) fn at(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { action, path, source }
    }

    /// For `map_err` on system calls that name nothing.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
