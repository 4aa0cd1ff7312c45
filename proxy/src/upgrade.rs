//! Another process takes over, without a moment in which nobody listens.
//!
//! On SIGUSR2 the proxy starts its program anew, as it was started itself, and sends it all its listening sockets over the Unix
//! socket that is the new process's standard input. The sockets are the same in both processes: what waits in the kernel's
//! queues is accepted by the one or the other. The new process says when it could have a handshake signed; only then it
//! accepts, and the old one drains. If it ends before, nothing has happened. An old one that is told to end meanwhile ends
//! both.

mod attempt;
mod predecessor;
mod successor;

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

pub(crate) use attempt::Attempt;
pub(crate) use predecessor::Predecessor;
pub(crate) use successor::Program;

use crate::listener;

/// What tells a process that its standard input is the socket of a predecessor.
const ENVIRONMENT: &str = "HSM_PROXY_UPGRADE";

/// On the socket, from the old process: one more listening socket comes with this byte; no more come.
const LISTENER: u8 = b'L';
const END: u8 = b'E';

/// From the new process: it accepts connections now.
const READY: u8 = b'R';

/// Listening sockets that this process was born with.
#[derive(Default)]
pub(crate) struct Inherited {
    listeners: Vec<TcpListener>,
    /// Whoever is to be told when this process is ready.
    pub(crate) predecessor: Option<Predecessor>,
}

impl Inherited {
    /// From a predecessor, or from a service manager (`sd_listen_fds(3)`: `$LISTEN_FDS` and `$LISTEN_PID`).
    ///
    /// # Errors
    ///
    /// If there are some and they can't be taken.
    pub(crate) fn from_environment() -> io::Result<Self> {
        if std::env::var_os(ENVIRONMENT).is_some() {
            let (predecessor, listeners) = Predecessor::greet()?;
            return Ok(Self { listeners, predecessor: Some(predecessor) });
        }
        let mut descriptors = ListenFd::from_env();
        let mut listeners = Vec::new();
        for at in 0..descriptors.len() {
            let Some(listener) = descriptors.take_tcp_listener(at)? else { continue };
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
        Ok(Self { listeners, predecessor: None })
    }

    /// The sockets at this address, made into one for each worker at least; none if there are none.
    ///
    /// # Errors
    ///
    /// As [`listener::share`].
    pub(crate) fn take(&mut self, address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
        let is_here = |listener: &TcpListener| listener.local_addr().is_ok_and(|local| local == address);
        let (here, elsewhere) = std::mem::take(&mut self.listeners).into_iter().partition(is_here);
        self.listeners = elsewhere;
        listener::share(here, workers)
    }

    /// Closes what nobody took, and says so.
    pub(crate) fn close_rest(&mut self) {
        for listener in self.listeners.drain(..) {
            if let Ok(address) = listener.local_addr() {
                tracing::warn!(%address, "an inherited socket is closed: its address is not configured");
            }
        }
    }
}
