//! Taking connections, and not taking them.

use std::io::{self, ErrorKind};
use std::time::Duration;

use keycore_audit::Peer;
use mio::net::UnixStream;
use mio::{Interest, Registry};

use super::{LISTENER, Limits};
use crate::listener::Listener;
use crate::peer;

/// The listening socket and whether it may have a connection for us.
pub(super) struct Acceptor {
    listener: Listener,
    ready: bool,
    /// After a failure: not before then.
    pause_until: Duration,
}

/// Why a connection was closed at once.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("user {uid} (process {pid}) may not connect; allow-uids does not list it", uid = .0.uid, pid = .0.pid)]
    User(Peer),
    #[error("all {0} connections are taken; raise max-connections if they are yours")]
    Full(usize),
    #[error("the kernel does not say who connected: {0}")]
    Unknown(io::Error),
}

impl Acceptor {
    /// Connections taken between two rounds of service.
    pub(super) const PER_TURN: usize = 64;
    /// Wait after a failure, which is most likely a lack of file descriptors.
    const PAUSE: Duration = Duration::from_millis(100);

    pub(super) fn new(mut listener: Listener, registry: &Registry) -> io::Result<Self> {
        registry.register(listener.source(), LISTENER, Interest::READABLE)?;
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
    pub(super) fn accept(&mut self, now: Duration) -> io::Result<Option<UnixStream>> {
        while self.ready && now >= self.pause_until {
            match self.listener.accept() {
                Ok(stream) => return Ok(Some(stream)),
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
pub(super) fn examine(stream: &UnixStream, limits: &Limits, connections: usize) -> Result<Peer, Rejection> {
    let peer = peer::credentials(stream).map_err(Rejection::Unknown)?;
    if !limits.peers.allows(peer.uid) {
        return Err(Rejection::User(peer));
    }
    let room = room_for(peer.uid, limits);
    if connections >= room { Err(Rejection::Full(room)) } else { Ok(peer) }
}

/// The last few connections are kept for operators: they get in while a stolen proxy holds all the others.
fn room_for(uid: u32, limits: &Limits) -> usize {
    let kept = if limits.peers.is_operator(uid) { 0 } else { (limits.max_connections / 8).min(8) };
    limits.max_connections - kept
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
