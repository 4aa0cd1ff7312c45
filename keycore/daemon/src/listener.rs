//! A replica's Unix socket, and its port.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener, UnixStream};

use crate::exit::StartError;

/// Where a replica listens.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// For processes of this machine.
    pub(crate) unix: Listener,
    /// For clients of other machines.
    pub(crate) tcp: Option<TcpListener>,
}

/// Listens at a port for clients of other machines.
pub(crate) fn bind_tcp(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?;
    tracing::info!(%address, "listening for TLS");
    Ok(listener)
}

/// A listening socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Listens at `path` with the permissions `mode`. What a killed predecessor left there is removed; a socket that
    /// somebody answers, or a file that is no socket, stays.
    ///
    /// The caller has set a umask of 077, so that the socket is never more open than `mode`.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self, StartError> {
        remove_stale(path)?;
        let socket = UnixListener::bind(path).map_err(StartError::at("listen at", path))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(StartError::at("set the permissions of", path))?;
        let inode = fs::symlink_metadata(path).map_err(StartError::at("look at", path))?.ino();
        Ok(Self { socket, path: path.to_owned(), inode })
    }

    /// What an event loop registers.
    pub(crate) fn source(&mut self) -> &mut UnixListener {
        &mut self.socket
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().map(|(stream, _)| stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _already_gone = fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), StartError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            let not_ours = io::Error::other("a file that is no socket is in the way; move it");
            return Err(StartError::at("listen at", path)(not_ours));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StartError::at("look at", path)(error)),
    }
    // Does not block: a listener with a full queue gives WouldBlock, and is alive.
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(StartError::at("remove the stale socket", path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(StartError::SocketInUse { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_stale_socket_and_takes_its_file_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine-0.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file, as a killed process does");
        let listener = Listener::bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn leaves_a_live_socket_and_a_foreign_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine-0.sock");
        let alive = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path, 0o600), Err(StartError::SocketInUse { .. })));
        drop(alive);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&path, 0o600).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
