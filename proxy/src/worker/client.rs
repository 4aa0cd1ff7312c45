//! One client, from its acceptance to its end: who it is, whether it may come in, its handshake, its requests.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::passed::ToPass;
use super::{Serving, Worker};
use crate::clients::{Connected, Refused};
use crate::config::Entrance;
use crate::connection::{ClientConnection, Handshake, Protocol};
use crate::generation::Generation;
use crate::handshake::{Accepted, Gate, HandshakeError, SignatureTime};
use crate::listener;
use crate::metrics::{HandshakeResult, Metrics};
use crate::proxy_protocol::{self, Ends};
use crate::traces::HandshakeFacts;

/// Connections of one listening socket that wait for their PROXY header. They are not counted by client yet, and a load
/// balancer sends the header at once.
const AWAITED_HEADERS: usize = 1024;

/// A listening socket, as those who come through it find it.
pub(super) struct Door {
    entrance: Entrance,
    /// The address that all of its connections have at this end, if that is known.
    local: Option<SocketAddr>,
    headers: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(entrance: Entrance, listener: &TcpListener) -> Self {
        Self {
            entrance,
            local: listener::address_of_all(listener),
            headers: Arc::new(Semaphore::new(AWAITED_HEADERS)),
        }
    }
}

/// What is to be done before a client is let in.
enum Admission {
    /// Nothing: it was counted.
    Given(Option<Connected>),
    /// Its PROXY header says who it is.
    AfterHeader(OwnedSemaphorePermit),
}

/// What comes of a client's first words.
enum Made {
    /// The handshake is made.
    Accepted(Accepted<TcpStream>),
    /// The server behind makes it.
    ToPass(ToPass),
}

/// A connection whose handshake is over.
enum Begun {
    Client(Box<TlsStream<Gate<TcpStream>>>, Rc<ClientConnection>),
    ToPass(Box<ToPass>),
}

impl Worker {
    /// Serves a connection that was just accepted, in a task of its own, if its client may have one.
    pub(super) fn spawn(
        self: &Rc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        door: &Door,
        permit: OwnedSemaphorePermit,
        alive: &mpsc::Sender<Infallible>,
    ) {
        let serving = self.serving();
        let admission = if serving.generation.is_load_balancer(remote.ip()) {
            match Arc::clone(&door.headers).try_acquire_owned() {
                Ok(waiting) => Admission::AfterHeader(waiting),
                Err(_) => return self.refuse(remote, Refused::NoHeaders),
            }
        } else {
            let Ok(counted) = self.admit(&serving, remote) else { return };
            Admission::Given(counted)
        };
        let Some(local) = door.local.or_else(|| stream.local_addr().ok()) else { return };
        let ends = Ends { client: remote, server: local };
        let (worker, alive, entrance) = (Rc::clone(self), alive.clone(), door.entrance);
        tokio::task::spawn_local(async move {
            worker.client(stream, ends, admission, entrance, &serving, permit).await;
            drop(alive);
        });
    }

    /// Whether this client may have another connection. One who may not is told nothing, which would cost more than it does him.
    fn admit(&self, serving: &Serving, remote: SocketAddr) -> Result<Option<Connected>, Refused> {
        let generation = &serving.generation;
        generation
            .clients
            .connect(remote.ip(), &generation.limits)
            .inspect_err(|&reason| self.refuse(remote, reason))
    }

    fn refuse(&self, remote: SocketAddr, reason: Refused) {
        self.shared.metrics.refusals.count(reason);
        if let Some(held_back) = self.shared.complaints.refused.pass() {
            let client = remote.ip().to_canonical();
            tracing::warn!(%client, limit = %reason, held_back, "connection refused");
        }
    }

    /// One client, from its first byte to its last.
    async fn client(
        &self,
        mut stream: TcpStream,
        mut ends: Ends,
        admission: Admission,
        entrance: Entrance,
        serving: &Serving,
        permit: OwnedSemaphorePermit,
    ) {
        let _open = Counted::new(&self.shared.metrics, permit);
        let accepted = Instant::now();
        let _counted = match admission {
            Admission::Given(counted) => counted,
            Admission::AfterHeader(waiting) => {
                let deadline = accepted + serving.generation.timeouts.handshake;
                let header = timeout_at(deadline, proxy_protocol::read(&mut stream)).await;
                drop(waiting);
                match header.map_err(|_| HandshakeError::TimedOut).and_then(|read| Ok(read?)) {
                    Ok(told) => ends = told.unwrap_or(ends),
                    Err(error) => return self.handshake_failed(ends.client, None, &error),
                }
                let Ok(counted) = self.admit(serving, ends.client) else { return };
                counted
            }
        };
        match entrance {
            Entrance::Tls => self.tls_client(stream, ends, accepted, serving).await,
            Entrance::Redirect => self.plain_client(stream, ends, serving).await,
        }
    }

    async fn tls_client(&self, stream: TcpStream, ends: Ends, accepted: Instant, serving: &Serving) {
        // On the heap, and gone before the requests are served: a handshake's state is large, and idle connections are many.
        let Some(begun) = Box::pin(self.begin(stream, ends, accepted, serving)).await else { return };
        let (stream, connection) = match begun {
            Begun::Client(stream, connection) => (stream, connection),
            Begun::ToPass(connection) => return Box::pin(self.pass(*connection, ends, serving)).await,
        };
        let (sites, journal) = (Arc::clone(&serving.generation.sites), Rc::clone(&serving.journal));
        let retired = serving.retired.clone();
        serving.forwarder.serve(stream, connection, sites, journal, retired).await;
    }

    /// A connection up to the end of its handshake, and what is told of that; `None` if there is nothing more to do.
    async fn begin(
        &self,
        stream: TcpStream,
        ends: Ends,
        accepted: Instant,
        serving: &Serving,
    ) -> Option<Begun> {
        let generation = &*serving.generation;
        let deadline = accepted + generation.timeouts.handshake;
        let mut known = Known::default();
        let handshake = timeout_at(deadline, self.handshake(stream, generation, &mut known)).await;
        let established = match handshake.unwrap_or(Err(HandshakeError::TimedOut)) {
            Ok(Made::Accepted(Accepted::Client(established))) => *established,
            Ok(Made::Accepted(Accepted::Authority)) => return None,
            Ok(Made::ToPass(connection)) => return Some(Begun::ToPass(Box::new(connection))),
            Err(error) => {
                serving.journal.handshake(&known.facts(accepted, ends, Err(&error)));
                self.handshake_failed(ends.client, known.sni.as_deref(), &error);
                return None;
            }
        };
        let outcome = Ok((&established.handshake, established.protocol));
        let traced = serving.journal.handshake(&known.facts(accepted, ends, outcome));
        let resumed = established.handshake.resumed;
        let metrics = &self.shared.metrics;
        let (result, timing) = if resumed {
            (HandshakeResult::Resumed, &metrics.timings.resumed)
        } else {
            (HandshakeResult::Full, &metrics.timings.full)
        };
        metrics.handshake(result);
        timing.observe(accepted.elapsed());
        let connection = ClientConnection {
            remote: ends.client,
            local: ends.server,
            protocol: established.protocol,
            sni: established.sni,
            handshake: established.handshake,
            identity: established.identity,
            traced: traced.map(Box::new),
        };
        Some(Begun::Client(established.stream, Rc::new(connection)))
    }

    /// The handshake, unless it is for another server to make. `known` is told of it as it goes on.
    async fn handshake(
        &self,
        stream: TcpStream,
        generation: &Generation,
        known: &mut Known,
    ) -> Result<Made, HandshakeError> {
        let hello = self.handshaker.hello(stream).await?;
        let sni = hello.sni.clone();
        *known = Known { sni: sni.clone(), signature: Rc::clone(&hello.signature) };
        if let Some(to) = sni.as_deref().and_then(|name| generation.sites.passed_on(name)) {
            let (client, first_bytes) = hello.give_up()?;
            return Ok(Made::ToPass(ToPass { client, first_bytes, sni, to: Arc::clone(to) }));
        }
        self.handshaker.accept(hello, generation).await.map(Made::Accepted)
    }

    fn handshake_failed(&self, client: SocketAddr, asked_for: Option<&str>, error: &HandshakeError) {
        self.shared.metrics.handshake(HandshakeResult::from(error));
        self.shared.complaints.handshakes.failed(client, asked_for, error);
    }

    /// One client without TLS, to be sent to where there is.
    async fn plain_client(&self, stream: TcpStream, ends: Ends, serving: &Serving) {
        let generation = &serving.generation;
        let (sites, journal) = (Arc::clone(&generation.sites), Rc::clone(&serving.journal));
        let connection = Rc::new(ClientConnection::plain(ends.client, ends.server));
        let (port, shutdown) = (generation.redirect_port, serving.retired.clone());
        serving.forwarder.redirect(stream, connection, sites, journal, port, shutdown).await;
    }
}

/// What is known of a handshake, whatever becomes of it.
#[derive(Default)]
struct Known {
    /// The name that the client asks for.
    sni: Option<Arc<str>>,
    signature: Rc<Cell<Option<SignatureTime>>>,
}

impl Known {
    fn facts<'a>(
        &'a self,
        accepted: Instant,
        ends: Ends,
        outcome: Result<(&'a Handshake, Protocol), &'a HandshakeError>,
    ) -> HandshakeFacts<'a> {
        HandshakeFacts {
            began: accepted.into_std(),
            client: ends.client.ip(),
            sni: self.sni.as_deref(),
            outcome,
            signature: self.signature.get(),
        }
    }
}

/// Counts a connection while it lives, also if it panics.
struct Counted<'a> {
    metrics: &'a Metrics,
    _permit: OwnedSemaphorePermit,
}

impl<'a> Counted<'a> {
    fn new(metrics: &'a Metrics, permit: OwnedSemaphorePermit) -> Self {
        metrics.accepted();
        Self { metrics, _permit: permit }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.closed();
    }
}
