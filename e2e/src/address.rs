//! Addresses of this machine: those that nobody has, and those at which somebody is to listen.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::wait;

/// Longest wait for what takes milliseconds on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses with ports that nobody had a moment ago, for programs that don't tell which one they chose.
///
/// # Panics
///
/// If there are none.
pub fn free<const COUNT: usize>() -> [SocketAddr; COUNT] {
    // All are held until the last is there: no two are the same.
    let listeners = [(); COUNT].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address"))
}

/// Waits until `who` takes connections at a port.
///
/// # Panics
///
/// If that takes more than a minute.
#[track_caller]
pub fn await_port(who: &str, address: SocketAddr) {
    wait::until(&format!("{who} listens"), PATIENCE, || TcpStream::connect(address).ok());
}

/// Waits until `who` takes connections at a Unix socket.
///
/// # Panics
///
/// If that takes more than a minute.
#[track_caller]
pub fn await_socket(who: &str, path: &Path) {
    wait::until(&format!("{who} listens"), PATIENCE, || UnixStream::connect(path).ok());
}
