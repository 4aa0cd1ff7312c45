//! Taking connections, and not taking them.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::Limits;
use crate::listener::Listener;
use crate::peer::{self, Process};
use crate::tls::Unusable;

/// A socket that connections come from.
pub(super) trait Listening {
    type Connection;
    type Source: Source;

    fn source(&mut self) -> &mut Self::Source;
    fn accept(&self) -> io::Result<Self::Connection>;
}

impl Listening for Listener {
    type Connection = UnixStream;
    type Source = mio::net::UnixListener;

    fn source(&mut self) -> &mut mio::net::UnixListener {
        self.source()
    }

    fn accept(&self) -> io::Result<UnixStream> {
        self.accept()
    }
}

impl Listening for TcpListener {
    type Connection = (TcpStream, SocketAddr);
    type Source = Self;

    fn source(&mut self) -> &mut Self {
        self
    }

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept()
    }
}

/// The listening socket and whether it may have a connection for us.
pub(super) struct Acceptor<L> {
    listener: L,
    ready: bool,
    /// After a failure: not before then.
    pause_until: Duration,
}

/// Why a connection was closed at once.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("user {uid} (process {pid}) may not connect; allow-uids does not list it", uid = .0.uid, pid = .0.pid)]
    User(Process),
    #[error("all {0} connections are taken; raise max-connections if they are yours")]
    Full(usize),
    #[error("the kernel does not say who connected: {0}")]
    Unknown(io::Error),
    #[error("{0}: too many others shake hands, or all connections are taken")]
    Busy(SocketAddr),
    #[error("{network}: {most} connections of this network shake hands already")]
    BusyNetwork { network: IpAddr, most: usize },
    #[error(
        "the cluster has no certificate for TCP yet, or this engine is sealed; see hsm cluster csr and set-certificate"
    )]
    NoIdentity,
    #[error("the cluster's certificate can't be used: {0}")]
    Identity(#[from] Unusable),
}

impl<L: Listening> Acceptor<L> {
    /// Connections taken between two rounds of service.
    pub(super) const PER_TURN: usize = 64;
    /// Wait after a failure, which is most likely a lack of file descriptors.
    const PAUSE: Duration = Duration::from_millis(100);

    pub(super) fn new(mut listener: L, token: Token, registry: &Registry) -> io::Result<Self> {
        registry.register(listener.source(), token, Interest::READABLE)?;
        Ok(Self { listener, ready: true, pause_until: Duration::ZERO })
    }

    /// There is a connection to take.
    pub(super) fn became_ready(&mut self) {
        self.ready = true;
    }

    /// When to call [`Acceptor::accept`] although no event comes.
    pub(super) fn next_try(&self) -> Option<Duration> {
        self.ready.then_some(self.pause_until)
    }

    /// The next connection, or `None` if there is none for now.
    pub(super) fn accept(&mut self, now: Duration) -> io::Result<Option<L::Connection>> {
        while self.ready && now >= self.pause_until {
            match self.listener.accept() {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.ready = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.pause_until = now + Self::PAUSE;
                        return Err(error);
                    }
                },
            }
        }
        Ok(None)
    }
}

/// Who connected, if that process may and there is room.
pub(super) fn examine(
    stream: &UnixStream,
    limits: &Limits,
    connections: usize,
) -> Result<Process, Rejection> {
    let peer = peer::credentials(stream).map_err(Rejection::Unknown)?;
    if !limits.peers.allows(peer.uid) {
        return Err(Rejection::User(peer));
    }
    let room = room_for(peer.uid, limits);
    if connections >= room { Err(Rejection::Full(room)) } else { Ok(peer) }
}

/// How many more clients of other machines there is room for. None of them is an operator.
pub(super) fn remote_room(limits: &Limits, connections: usize) -> usize {
    (limits.max_connections - kept_for_operators(limits)).saturating_sub(connections)
}

/// The last few connections are kept for operators: they get in while a stolen proxy holds all the others.
fn room_for(uid: u32, limits: &Limits) -> usize {
    let kept = if limits.peers.is_operator(uid) { 0 } else { kept_for_operators(limits) };
    limits.max_connections - kept
}

fn kept_for_operators(limits: &Limits) -> usize {
    (limits.max_connections / 8).min(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::PeerFilter;

    #[test]
    fn operators_find_room_when_the_others_have_all_of_theirs() {
        let room = |uid, max_connections| {
            let peers = PeerFilter::new(990, &[33]);
            room_for(uid, &Limits { max_connections, max_in_flight: 1, max_frame: 512, peers })
        };
        assert_eq!([0, 990, 33].map(|uid| room(uid, 1024)), [1024, 1024, 1016]);
        assert_eq!([0, 990, 33].map(|uid| room(uid, 16)), [16, 16, 14]);
        assert_eq!([0, 990, 33].map(|uid| room(uid, 1)), [1, 1, 1]);
    }
}
