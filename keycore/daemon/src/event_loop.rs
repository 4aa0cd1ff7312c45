//! One thread for all sockets of a replica. Nothing in it waits: not for a disk, not for a slow key, not for a peer.
//!
//! Edge-triggered: an event is only a hint that is remembered in the connection, and every connection with something
//! to do stands once in `ready`, which is served in rounds. So whoever stops early is not forgotten, and a flood costs
//! the others one bounded share of each round (`shares`).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use keycore_audit::Peer;
use keycore_engine::Engine;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::clock::Clock;
use crate::connection::{CloseReason, Connection, ConnectionId, Services, Stream, Turn};
use crate::listener::{Listener, Listeners};
use crate::peer::PeerFilter;
use crate::shutdown::{self, Shutdown};
use crate::timed_job::{TimedJob, TimedResult};
use crate::tls::NetworkIdentity;
use crate::worker_pool::WorkerPool;

mod accept;
mod complaints;
mod handshakes;
mod shares;

use accept::Acceptor;
use complaints::Complaints;
use handshakes::Handshakes;
use shares::Shares;

/// The shutdown pipe.
const SHUTDOWN: Token = Token(usize::MAX);
/// The listening socket.
const LISTENER: Token = Token(usize::MAX - 1);
/// Results of the worker pool. The replica makes the waker, because the pool needs it first.
pub(crate) const RESULTS: Token = Token(usize::MAX - 2);

/// What one replica takes.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Connections at a time.
    pub(crate) max_connections: usize,
    /// Jobs that one connection may have in the pool.
    pub(crate) max_in_flight: usize,
    /// Longest frame after the hello, in bytes.
    pub(crate) max_frame: usize,
    /// Whose processes may connect.
    pub(crate) peers: PeerFilter,
}

/// The loop and everything it owns.
pub(crate) struct EventLoop {
    poll: Poll,
    clock: Clock,
    shutdown: Shutdown,
    acceptor: Option<Acceptor<Listener>>,
    handshakes: Option<Handshakes>,
    engine: Arc<Engine>,
    pool: WorkerPool<TimedJob, TimedResult>,
    limits: Limits,
    clients: Slab<Client>,
    ready: VecDeque<usize>,
    shares: Shares,
    /// Those who had a turn in this round and have more to do: after all others.
    again: Vec<usize>,
    next_serial: u64,
    /// When to look at the clients' deadlines; `None` while nobody has one.
    sweep_at: Option<Duration>,
    /// Once the process is to end: when it does, ready or not.
    drain_until: Option<Duration>,
    complaints: Complaints,
    /// When this round began: what it reads had come by then.
    woken_at: Duration,
}

struct Client {
    connection: Connection,
    peer: Peer,
    /// Stands in `ready`.
    queued: bool,
    /// Is told when its socket has room.
    watches_room: bool,
}

impl EventLoop {
    /// How long requests that are queued may take once the process is to end.
    const DRAIN: Duration = Duration::from_secs(5);
    /// How often deadlines of seconds are looked at.
    const SWEEP: Duration = Duration::from_millis(500);
    const EVENTS: usize = 256;

    /// A loop that will listen at `listeners` and end by `shutdown`. `pool` wakes `poll` with [`RESULTS`].
    pub(crate) fn new(
        poll: Poll,
        clock: Clock,
        mut shutdown: Shutdown,
        listeners: Listeners,
        engine: Arc<Engine>,
        pool: WorkerPool<TimedJob, TimedResult>,
        limits: Limits,
    ) -> io::Result<Self> {
        poll.registry().register(shutdown.source(), SHUTDOWN, Interest::READABLE)?;
        let acceptor = Acceptor::new(listeners.unix, LISTENER, poll.registry())?;
        let handshakes = listeners.tcp.map(|tcp| Handshakes::new(tcp, poll.registry())).transpose()?;
        Ok(Self {
            poll,
            clock,
            shutdown,
            acceptor: Some(acceptor),
            handshakes,
            engine,
            pool,
            limits,
            clients: Slab::new(),
            ready: VecDeque::new(),
            shares: Shares::default(),
            again: Vec::new(),
            next_serial: 0,
            sweep_at: None,
            drain_until: None,
            complaints: Complaints::default(),
            woken_at: Duration::ZERO,
        })
    }

    /// Serves until it is told to end and what was queued is done, or its time is up.
    ///
    /// # Errors
    ///
    /// If the kernel's event queue fails; a peer's failure ends its connection only.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(Self::EVENTS);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.woken_at = self.clock.mono();
            for event in &events {
                self.note(event);
            }
            events.clear();
            self.accept();
            self.accept_remote();
            self.take_results();
            self.serve_round();
            self.sweep();
            if self.drain_until.is_some_and(|until| self.clients.is_empty() || self.clock.mono() >= until) {
                self.close_all();
                return Ok(());
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.handshakes.as_ref().is_some_and(Handshakes::is_ready) {
            return Some(Duration::ZERO);
        }
        let accept_at = self.acceptor.as_ref().and_then(Acceptor::next_try);
        let accept_remote_at = self.handshakes.as_ref().and_then(Handshakes::next_try);
        let next =
            [self.sweep_at, self.drain_until, accept_at, accept_remote_at].into_iter().flatten().min()?;
        Some(next.saturating_sub(self.clock.mono()))
    }

    fn note(&mut self, event: &Event) {
        match event.token() {
            SHUTDOWN => {
                shutdown::drain(self.shutdown.source());
                self.begin_drain();
            }
            LISTENER => {
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.became_ready();
                }
            }
            // The results are taken in every turn of the loop.
            RESULTS => {}
            Token(slot) => {
                if self.handshakes.as_mut().is_some_and(|handshakes| handshakes.note(event)) {
                    return;
                }
                let Some(client) = self.clients.get_mut(slot) else { return };
                // Both directions are closed: nobody is there to take an answer.
                if event.is_error() || event.is_write_closed() {
                    self.close(slot, &CloseReason::Ended);
                    return;
                }
                if event.is_readable() || event.is_read_closed() {
                    client.connection.became_readable(event.is_read_closed());
                }
                self.enqueue(slot);
            }
        }
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(client) = self.clients.get_mut(slot).filter(|client| !client.queued) {
            client.queued = true;
            self.ready.push_back(slot);
        }
    }

    fn accept(&mut self) {
        let now = self.clock.mono();
        let Some(mut acceptor) = self.acceptor.take() else { return };
        for _ in 0..Acceptor::<Listener>::PER_TURN {
            match acceptor.accept(now) {
                Ok(Some(stream)) => {
                    let verdict = accept::examine(&stream, &self.limits, self.clients.len());
                    match verdict {
                        Ok(process) => self.admit(Stream::Unix(stream), process.into(), now),
                        Err(rejection) => self.complaints.rejected(&rejection, now),
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.complaints.accept_failed(&error, now);
                    break;
                }
            }
        }
        self.acceptor = Some(acceptor);
    }

    /// Whoever knocks from another machine, and whoever has shaken hands.
    fn accept_remote(&mut self) {
        let Some(mut handshakes) = self.handshakes.take() else { return };
        let (now, registry) = (self.clock.mono(), self.poll.registry());
        let room = accept::remote_room(&self.limits, self.clients.len() + handshakes.len());
        handshakes.accept(registry, || identity(&self.engine), room, now, &mut self.complaints);
        let arrived = handshakes.round(registry, now, &mut self.complaints);
        if handshakes.len() > 0 {
            self.arm_sweep(now);
        }
        self.handshakes = Some(handshakes);
        for (stream, peer) in arrived {
            tracing::debug!(%peer, "connection over TLS");
            self.admit(Stream::Tls(stream), peer, now);
        }
    }

    fn admit(&mut self, stream: Stream, peer: Peer, now: Duration) {
        let session = self.engine.connect(peer);
        let entry = self.clients.vacant_entry();
        let slot = entry.key();
        let id = ConnectionId { slot, serial: self.next_serial };
        self.next_serial += 1;
        let connection = Connection::new(id, stream, session, now);
        let client = entry.insert(Client { connection, peer, queued: false, watches_room: false });
        let registered =
            self.poll.registry().register(client.connection.source(), Token(slot), Interest::READABLE);
        match registered {
            Ok(()) => {
                self.enqueue(slot);
                self.arm_sweep(now);
            }
            Err(error) => self.close(slot, &CloseReason::Socket(error)),
        }
    }

    fn take_results(&mut self) {
        for done in self.pool.collect() {
            let slot = done.connection.slot;
            let Some(client) = self.clients.get_mut(slot) else { continue };
            if client.connection.id() != done.connection {
                continue; // Whoever asked is gone, and another has its slot.
            }
            client.connection.take_result(&self.engine, done.request, done.result, self.clock.now());
            self.enqueue(slot);
        }
    }

    /// One turn for each that was ready when the round began, as far as its party's share goes.
    fn serve_round(&mut self) {
        let Self { ready, clients, shares, .. } = self;
        shares.divide(ready.iter().filter_map(|&slot| Some(clients.get(slot)?.connection.party())));
        let services = Services {
            engine: &self.engine,
            pool: &self.pool,
            max_in_flight: self.limits.max_in_flight,
            max_frame: self.limits.max_frame,
            draining: self.drain_until.is_some(),
            alone: self.ready.len() == 1,
            clock: self.clock,
            woken_at: self.woken_at,
        };
        let mut over = Vec::new();
        let mut deadlines = false;
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { break };
            let Some(client) = self.clients.get_mut(slot) else { continue };
            if !client.queued {
                continue; // An entry that a closed predecessor in this slot has left.
            }
            let Some(burst) = self.shares.take(client.connection.party()) else {
                self.ready.push_back(slot);
                continue;
            };
            client.queued = false;
            let turn = client.connection.turn(&services, burst, self.clock.now());
            let turn = match client.watch_room(&self.poll, slot) {
                Ok(()) => turn,
                Err(error) => Turn::Close(CloseReason::Socket(error)),
            };
            deadlines |= client.connection.has_deadline();
            match turn {
                Turn::Idle => {}
                Turn::Again => {
                    client.queued = true;
                    self.again.push(slot);
                }
                Turn::Close(reason) => over.push((slot, reason)),
            }
        }
        self.ready.extend(self.again.drain(..));
        for (slot, reason) in over {
            self.close(slot, &reason);
        }
        if deadlines {
            self.arm_sweep(self.clock.mono());
        }
    }

    fn arm_sweep(&mut self, now: Duration) {
        self.sweep_at.get_or_insert(now + Self::SWEEP);
    }

    fn sweep(&mut self) {
        let now = self.clock.mono();
        if self.sweep_at.is_none_or(|at| now < at) {
            return;
        }
        self.sweep_at = None;
        let mut over = Vec::new();
        let mut deadlines = false;
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.sweep(now, &mut self.complaints);
            deadlines = handshakes.len() > 0;
        }
        for (slot, client) in &self.clients {
            deadlines |= client.connection.has_deadline();
            over.extend(client.connection.overdue(now).map(|reason| (slot, reason)));
        }
        for (slot, reason) in over {
            self.close(slot, &reason);
        }
        if deadlines {
            self.arm_sweep(now);
        }
    }

    fn close(&mut self, slot: usize, reason: &CloseReason) {
        let Some(mut client) = self.clients.try_remove(slot) else { return };
        let now = self.clock.now();
        self.complaints.closed(client.peer, reason, now.mono);
        self.pool.forget(client.connection.id());
        // Fails if it was never registered; closing the socket takes it out of the queue in any case.
        let _not_registered = self.poll.registry().deregister(client.connection.source());
        client.connection.close(&self.engine, now);
    }

    /// Stops listening, and reading; every client is looked at, so that the idle are closed at once.
    fn begin_drain(&mut self) {
        if self.drain_until.is_some() {
            return;
        }
        tracing::info!(connections = self.clients.len(), "engine ending");
        self.drain_until = Some(self.clock.mono() + Self::DRAIN);
        self.acceptor = None;
        self.handshakes = None;
        for slot in self.clients.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.enqueue(slot);
        }
    }

    fn close_all(&mut self) {
        for slot in self.clients.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.close(slot, &CloseReason::Drained);
        }
    }
}

/// What clients of other machines are shown.
fn identity(engine: &Engine) -> Option<Arc<dyn NetworkIdentity>> {
    engine.cluster_identity().map(|identity| identity as Arc<dyn NetworkIdentity>)
}

impl Client {
    /// Asks for news of room in the socket only while replies wait for it: else each reply that the peer takes would
    /// wake the loop.
    fn watch_room(&mut self, poll: &Poll, slot: usize) -> io::Result<()> {
        let wanted = self.connection.wants_to_write();
        if wanted != self.watches_room {
            let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            poll.registry().reregister(self.connection.source(), Token(slot), interest)?;
            self.watches_room = wanted;
        }
        Ok(())
    }
}
