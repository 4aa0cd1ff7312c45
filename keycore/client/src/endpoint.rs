use core::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// A Unix socket, by its path (at most 107 bytes, see `unix(7)`).
    Unix(PathBuf),
}

impl Endpoint {
    /// Connects; waits at most so long if the engine's backlog is full, as a frozen engine's is after a while.
    pub(crate) fn connect_blocking(&self, timeout: Duration) -> io::Result<UnixStream> {
        let Self::Unix(path) = self;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Zero would mean for ever.
        let timeout = timeout.max(Duration::from_millis(1));
        // unix(7) says nothing of it, but connect() waits for room in the backlog as long as a send may take.
        set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(UnixStream::from(socket))
    }

    /// Connects; fails at once if the engine's backlog is full.
    pub(crate) async fn connect(&self) -> io::Result<tokio::net::UnixStream> {
        let Self::Unix(path) = self;
        tokio::net::UnixStream::connect(path).await
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<PathBuf> for Endpoint {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<&Path> for Endpoint {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}
