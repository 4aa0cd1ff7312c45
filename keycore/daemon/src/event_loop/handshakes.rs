//! Clients of other machines until they have shown a certificate: few at a time, not for long, some in each round.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use keycore_engine::{Peer, network_of};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::net::sockopt;
use slab::Slab;

use super::accept::{Acceptor, Rejection};
use super::complaints::Complaints;
use crate::tls::{Credentials, NetworkIdentity, TlsStream};

/// The listening TCP socket.
pub(super) const LISTENER: Token = Token(usize::MAX - 3);

/// Tokens of those who shake hands; connections have those below.
const FIRST: usize = usize::MAX / 2;

/// The port and everybody who knocks at it.
pub(super) struct Handshakes {
    acceptor: Acceptor<TcpListener>,
    credentials: Credentials,
    pending: Slab<Pending>,
    ready: VecDeque<usize>,
    /// How many of `pending` are of one network.
    networks: HashMap<IpAddr, usize>,
}

struct Pending {
    stream: TlsStream,
    address: SocketAddr,
    since: Duration,
    /// Stands in `ready`.
    queued: bool,
    /// Is told when its socket has room.
    watches_room: bool,
}

impl Handshakes {
    /// From the connection to the end of the handshake.
    pub(super) const PATIENCE: Duration = Duration::from_secs(5);
    /// At a time, each of which may hold some 100 KiB.
    const MOST: usize = 128;
    /// At a time from one network: an IPv4 address, or the /64 of an IPv6 address.
    const MOST_OF_ONE: usize = 16;
    /// Turns in one round: each may take a signature's and a verification's time, half a millisecond.
    const PER_ROUND: usize = 4;

    pub(super) fn new(listener: TcpListener, registry: &Registry) -> io::Result<Self> {
        Ok(Self {
            acceptor: Acceptor::new(listener, LISTENER, registry)?,
            credentials: Credentials::default(),
            pending: Slab::new(),
            ready: VecDeque::new(),
            networks: HashMap::new(),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether somebody has a turn to come.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When to call [`Handshakes::accept`] although no event comes.
    pub(super) fn next_try(&self) -> Option<Duration> {
        self.acceptor.next_try()
    }

    /// Remembers an event; false if it is none of theirs.
    pub(super) fn note(&mut self, event: &Event) -> bool {
        match event.token() {
            LISTENER => self.acceptor.became_ready(),
            Token(token) if (FIRST..FIRST + Self::MOST).contains(&token) => self.enqueue(token - FIRST),
            _ => return false,
        }
        true
    }

    /// Takes whoever knocks, if there is room for `room` more.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        identity: impl Fn() -> Option<Arc<dyn NetworkIdentity>>,
        room: usize,
        now: Duration,
        complaints: &mut Complaints,
    ) {
        for taken in 0..Acceptor::<TcpListener>::PER_TURN {
            match self.acceptor.accept(now) {
                Ok(Some((socket, address))) => {
                    let begun = self.begin(socket, address, identity(), taken < room, now);
                    if let Err(rejection) = begun.and_then(|slot| self.watch(slot, registry)) {
                        complaints.rejected(&rejection, now);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    complaints.accept_failed(&error, now);
                    break;
                }
            }
        }
    }

    fn begin(
        &mut self,
        socket: TcpStream,
        address: SocketAddr,
        identity: Option<Arc<dyn NetworkIdentity>>,
        is_room: bool,
        now: Duration,
    ) -> Result<usize, Rejection> {
        if !is_room || self.pending.len() >= Self::MOST {
            return Err(Rejection::Busy(address));
        }
        let network = network_of(address.ip());
        if self.networks.get(&network).is_some_and(|&count| count >= Self::MOST_OF_ONE) {
            return Err(Rejection::BusyNetwork { network, most: Self::MOST_OF_ONE });
        }
        let config = self.credentials.current(identity)?.ok_or(Rejection::NoIdentity)?;
        prepare(&socket).map_err(Rejection::Unknown)?;
        let stream = TlsStream::new(socket, config).map_err(|error| Rejection::Identity(error.into()))?;
        *self.networks.entry(network).or_default() += 1;
        Ok(self.pending.insert(Pending { stream, address, since: now, queued: false, watches_room: false }))
    }

    fn watch(&mut self, slot: usize, registry: &Registry) -> Result<(), Rejection> {
        let source = self.pending[slot].stream.source();
        if let Err(error) = registry.register(source, Token(FIRST + slot), Interest::READABLE) {
            self.forget(slot);
            return Err(Rejection::Unknown(error));
        }
        self.enqueue(slot);
        Ok(())
    }

    /// A bounded number of turns. Returns who has shaken hands.
    pub(super) fn round(
        &mut self,
        registry: &Registry,
        now: Duration,
        complaints: &mut Complaints,
    ) -> Vec<(Box<TlsStream>, Peer)> {
        let mut done = Vec::new();
        for _ in 0..Self::PER_ROUND.min(self.ready.len()) {
            let Some(slot) = self.ready.pop_front() else { break };
            let Some(pending) = self.pending.get_mut(slot) else { continue };
            if !std::mem::take(&mut pending.queued) {
                continue; // An entry that a predecessor in this slot has left.
            }
            match pending.turn(registry, slot) {
                Ok(true) => done.extend(self.finish(slot, registry)),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => self.enqueue(slot),
                Err(error) => {
                    complaints.no_handshake(pending.address, &error, now);
                    self.forget(slot);
                }
            }
        }
        done
    }

    /// Drops whoever takes too long.
    pub(super) fn sweep(&mut self, now: Duration, complaints: &mut Complaints) {
        let late = |pending: &Pending| now.saturating_sub(pending.since) > Self::PATIENCE;
        let over: Vec<_> =
            self.pending.iter().filter(|(_, pending)| late(pending)).map(|(slot, _)| slot).collect();
        for slot in over {
            let patience = format!("no handshake within {} s", Self::PATIENCE.as_secs());
            complaints.no_handshake(self.pending[slot].address, &io::Error::other(patience), now);
            self.forget(slot);
        }
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(pending) = self.pending.get_mut(slot).filter(|pending| !pending.queued) {
            pending.queued = true;
            self.ready.push_back(slot);
        }
    }

    fn finish(&mut self, slot: usize, registry: &Registry) -> Option<(Box<TlsStream>, Peer)> {
        let mut pending = self.forget(slot)?;
        // The verifier demands a certificate, so there is one.
        let certificate = pending.stream.certificate()?;
        registry.deregister(pending.stream.source()).ok()?;
        Some((Box::new(pending.stream), Peer::Remote { address: pending.address, certificate }))
    }

    fn forget(&mut self, slot: usize) -> Option<Pending> {
        let pending = self.pending.try_remove(slot)?;
        let network = network_of(pending.address.ip());
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
        Some(pending)
    }
}

impl Pending {
    fn turn(&mut self, registry: &Registry, slot: usize) -> io::Result<bool> {
        let outcome = self.stream.shake_hands();
        let wanted = self.stream.wants_write();
        if wanted != self.watches_room {
            let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(self.stream.source(), Token(FIRST + slot), interest)?;
            self.watches_room = wanted;
        }
        outcome
    }
}

/// Small frames leave at once, and a client whose machine is gone is noticed within a minute.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    Ok(())
}

#[cfg(test)]
mod tests;
