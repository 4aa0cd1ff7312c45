//! One TLS handshake, from the client's first byte to a stream.

mod budget;
mod engine_time;
mod failure;
mod failure_log;
mod gate;
mod offered_tickets;
mod watched;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Instant;

use handshake_fiber::{Fiber, StackPool};
use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::UnixTime;
use rustls::server::Acceptor;
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

pub(crate) use budget::SigningBudget;
pub(crate) use engine_time::{EngineTime, SignatureTime};
pub(crate) use failure::HandshakeError;
pub(crate) use failure_log::FailureLog;
pub(crate) use gate::Gate;
pub(crate) use watched::WatchedKey;

use budget::{Place, QueueIsFull, Sizes};
use offered_tickets::{is_session_of, offered_tickets};

use crate::acme::ACME_TLS;
use crate::capacity::Capacity;
use crate::client_identity::ClientIdentity;
use crate::connection::{Handshake, Protocol};
use crate::generation::Generation;
use crate::metrics::Metrics;
use crate::tls::ClientCertificates;

tokio::task_local! {
    /// The handshake that runs. Set whenever its fiber runs.
    static CURRENT: Rc<InProgress>;
}

/// What the signer and the rest of a handshake tell each other past rustls.
pub(crate) struct InProgress {
    /// The name that the client asked for, or the default site's.
    pub(crate) site: Arc<str>,
    /// What was looked up for that name, if the site has another certificate for each.
    pub(crate) certificate: Option<Arc<CertifiedKey>>,
    /// Who signed, once somebody has.
    signed_by: RefCell<Option<Arc<str>>>,
    /// What of the signature's time was spent there, if that engine says.
    engine_time: Cell<Option<EngineTime>>,
    signature: Rc<Cell<Option<SignatureTime>>>,
    /// The key could not sign; shuts the connection's [`Gate`].
    unsigned: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    signing: Signing,
}

/// What a handshake has to do with the signing budget.
struct Signing {
    budget: Rc<SigningBudget>,
    /// Whose budget, by the name in logs: all hosts of a site share it.
    site: Box<str>,
    sizes: Sizes,
    /// What the client offers will most likely do without a signature.
    resumes: bool,
    /// The signature has been asked for: there won't be another.
    done: Cell<bool>,
    /// Held from before the key exchange until the signature is there.
    place: RefCell<Option<Place>>,
    /// There was no place.
    refused: Cell<bool>,
}

impl Signing {
    /// Waits for a place, if this handshake still needs one.
    async fn enter(&self) -> Result<(), QueueIsFull> {
        if self.resumes || self.done.get() || self.place.borrow().is_some() {
            return Ok(());
        }
        let place = self.budget.enter(&self.site, self.sizes).await?;
        self.place.replace(Some(place));
        Ok(())
    }

    /// Gives the place back: it is not for waiting for the client.
    fn leave(&self) {
        drop(self.place.take());
    }
}

impl InProgress {
    /// Whether the budget allows a signature now. A ticket that looked good and is not must not lead past those who wait:
    /// then only a place that nobody wants is good enough.
    fn may_sign(&self) -> bool {
        let signing = &self.signing;
        signing.done.set(true);
        if signing.place.borrow().is_some() {
            return true;
        }
        let Some(place) = signing.budget.try_enter(&signing.site) else {
            self.refuse();
            return false;
        };
        signing.place.replace(Some(place));
        true
    }

    /// There is no place, and none to wait for one: the client gets its alert, and nothing else.
    fn refuse(&self) {
        self.signing.refused.set(true);
        self.leave_unsigned();
    }

    /// An engine has signed.
    pub(crate) fn signed(&self, by: Option<Arc<str>>, time: Option<EngineTime>) {
        self.signed_by.replace(by);
        self.engine_time.set(time);
    }

    /// The signature was there, or not, after this time.
    fn waited_for_signature(&self, asked: Instant) {
        let (took, engine) = (asked.elapsed(), self.engine_time.take());
        self.metrics.timings.answered(took, engine);
        self.signature.set(Some(SignatureTime { asked, took, engine }));
    }

    /// There is no signature: nothing of this handshake is to reach the client any more.
    fn leave_unsigned(&self) {
        self.unsigned.store(true, Relaxed);
    }
}

/// The handshake that runs; `None` outside of handshakes.
pub(crate) fn current() -> Option<Rc<InProgress>> {
    CURRENT.try_with(Rc::clone).ok()
}

/// Makes handshakes; one per worker.
pub(crate) struct Handshaker {
    stacks: StackPool,
    /// How many fibers the process may have.
    fibers: Capacity,
    budget: Rc<SigningBudget>,
    metrics: Arc<Metrics>,
}

/// Who made a handshake.
pub(crate) enum Accepted<IO> {
    /// Somebody who wants to be served.
    Client(Box<Established<IO>>),
    /// An authority that saw the answer to its challenge (RFC 8737): the connection has ended.
    Authority,
}

/// A handshake that its client has begun, and nothing more.
pub(crate) struct Hello<IO> {
    start: StartHandshake<Gate<IO>>,
    unsigned: Arc<AtomicBool>,
    /// The name as the client asked for it, in lower case.
    name: Option<String>,
    /// The same without a dot at its end.
    pub(crate) sni: Option<Arc<str>>,
    /// How long its signature took, once it was waited for; whatever becomes of the handshake.
    pub(crate) signature: Rc<Cell<Option<SignatureTime>>>,
}

impl<IO> Hello<IO> {
    /// The connection, and all that was read from it: for whoever makes the handshake instead.
    ///
    /// # Errors
    ///
    /// If that was more than is kept, 16 KiB.
    pub(crate) fn give_up(mut self) -> Result<(IO, Vec<u8>), HandshakeError> {
        match self.start.io.take_first_bytes() {
            bytes if bytes.is_empty() => Err(HandshakeError::Tls(rustls::Error::PeerSentOversizedRecord)),
            bytes => Ok((self.start.io.into_inner(), bytes)),
        }
    }
}

/// A finished handshake.
pub(crate) struct Established<IO> {
    /// On the heap, since futures would keep room for each copy that it is moved through.
    pub(crate) stream: Box<TlsStream<Gate<IO>>>,
    pub(crate) sni: Option<Arc<str>>,
    pub(crate) protocol: Protocol,
    pub(crate) handshake: Handshake,
    pub(crate) identity: Option<ClientIdentity>,
}

/// Fatal alerts of RFC 8446, section 6, that rustls does not send for us, as plaintext records. Nothing is encrypted
/// before the server's first message, and each of these is the first.
const MISSING_EXTENSION: [u8; 7] = alert(109);
const UNRECOGNIZED_NAME: [u8; 7] = alert(112);
const INTERNAL_ERROR: [u8; 7] = alert(80);

const fn alert(description: u8) -> [u8; 7] {
    const FATAL: u8 = 2;
    [21, 3, 3, 0, 2, FATAL, description]
}

impl Handshaker {
    pub(crate) fn new(
        stacks: StackPool,
        fibers: Capacity,
        budget: SigningBudget,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { stacks, fibers, budget: Rc::new(budget), metrics }
    }

    /// Reads what a client that just connected says first: whose server it wants. Dropping the future ends it at any point.
    pub(crate) async fn hello<IO>(&self, io: IO) -> Result<Hello<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let unsigned = Arc::new(AtomicBool::new(false));
        let gated = Gate::new(io, Arc::clone(&unsigned));
        // A client that says nothing costs no stack.
        let start = LazyConfigAcceptor::new(Acceptor::default(), gated).await.map_err(HandshakeError::of)?;
        let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
        let sni = name.as_deref().map(|name| Arc::from(name.trim_end_matches('.')));
        Ok(Hello { start, unsigned, name, sni, signature: Rc::default() })
    }

    /// Makes the handshake with a client that has begun it, as `served` says. Dropping the future ends it at any point.
    pub(crate) async fn accept<IO>(
        &self,
        hello: Hello<IO>,
        served: &Generation,
    ) -> Result<Accepted<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Hello { mut start, unsigned, name, sni, signature } = hello;
        let Some(site) = served.sites.for_sni(sni.as_deref()) else {
            let (alert, error) = match sni {
                Some(_) => (UNRECOGNIZED_NAME, HandshakeError::UnknownName),
                None => (MISSING_EXTENSION, HandshakeError::NoName),
            };
            return Err(refuse(&mut start.io, &alert, error).await);
        };

        let certificate = match (site.certificates.lookup(), &sni) {
            (Some(lookup), Some(name)) => match lookup.find(name).await {
                Ok(Some(certificate)) => Some(certificate),
                Ok(None) => {
                    return Err(refuse(&mut start.io, &UNRECOGNIZED_NAME, HandshakeError::UnknownName).await);
                }
                Err(error) => {
                    return Err(refuse(&mut start.io, &INTERNAL_ERROR, HandshakeError::Lookup(error)).await);
                }
            },
            // The default site has no lookup.
            _ => None,
        };
        let challenge = site.challenges.as_ref().and_then(|answers| answers.over_tls(&start.client_hello()));
        if challenge.is_none() && site.certificates.is_pending() {
            return Err(refuse(&mut start.io, &INTERNAL_ERROR, HandshakeError::NoCertificate).await);
        }
        let config = challenge.or_else(|| served.tls.for_client(&start.client_hello(), site));
        let Some(config) = config else {
            let error = HandshakeError::Tls(rustls::Error::General("the site has no TLS".to_owned()));
            return Err(refuse(&mut start.io, &INTERNAL_ERROR, error).await);
        };
        let first_bytes = start.io.take_first_bytes();
        let is_ours = |ticket: &Vec<u8>| {
            let session = config.ticketer.decrypt(ticket);
            session.is_some_and(|session| is_session_of(&session, name.as_deref()))
        };
        let signing = Signing {
            budget: Rc::clone(&self.budget),
            // With a certificate of its own, a name is a site of its own.
            site: sni.as_deref().filter(|_| certificate.is_some()).unwrap_or(site.name()).into(),
            sizes: Sizes::from(&served.limits),
            resumes: offered_tickets(&first_bytes).iter().any(is_ours),
            done: Cell::new(false),
            place: RefCell::new(None),
            refused: Cell::new(false),
        };
        drop(first_bytes);
        // Before anything was computed for this client.
        if signing.enter().await.is_err() {
            site.requests.handshake_refused();
            return Err(refuse(&mut start.io, &INTERNAL_ERROR, HandshakeError::SigningBudget).await);
        }
        let counts = Arc::clone(&site.requests);
        // The signature is asked for in `into_stream` already, so that is inside, too.
        // What it makes is on the heap as soon as it is made: it is large, and is handed on many times.
        let handshake =
            Box::pin(async move { start.into_stream(config).into_fallible().await.map(Box::new) });
        let clients = site.policy.client_certificates.clone();
        let site = sni.clone().unwrap_or_else(|| Arc::from(site.name()));
        let progress = Rc::new(InProgress {
            site,
            certificate,
            signed_by: RefCell::new(None),
            engine_time: Cell::new(None),
            signature,
            unsigned,
            metrics: Arc::clone(&self.metrics),
            signing,
        });
        let mut stream = match self.in_fibers(handshake, &progress).await? {
            Ok(stream) => stream,
            Err((error, gated)) if progress.unsigned.load(Relaxed) => {
                let error = if progress.signing.refused.get() {
                    counts.handshake_refused();
                    HandshakeError::SigningBudget
                } else {
                    HandshakeError::NoSignature(error)
                };
                return Err(refuse(&mut gated.into_inner(), &INTERNAL_ERROR, error).await);
            }
            Err((error, mut gated)) => {
                // Whether the alert arrives is the client's affair.
                let _ = poll_fn(|cx| Poll::Ready(gated.poll_let_go(cx))).await;
                return Err(HandshakeError::of(error));
            }
        };
        let (gate, connection) = stream.get_mut();
        gate.handshake_is_over();
        // A request that came with the Finished is answered soon, and HTTP/2 begins with SETTINGS. Else the ticket goes out now: a client whose kernel
        // collects small writes (Nagle) sends its request when its Finished is acknowledged, which the kernel here would do 40 ms later.
        if connection.wants_read() && protocol(connection) == Protocol::Http1 {
            // What the socket does not take now goes before what is written next.
            let _ = poll_fn(|cx| Poll::Ready(gate.poll_let_go(cx))).await;
        }
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
            // Whether it arrives is the authority's affair.
            let _ = stream.shutdown().await;
            return Ok(Accepted::Authority);
        }
        let connection = stream.get_ref().1;
        if let Some(clients) = &clients {
            still_good(clients, connection).map_err(HandshakeError::Tls)?;
        }
        let identity = clients.map(|_| ClientIdentity::of(connection.peer_certificates()));
        let (protocol, handshake) = (protocol(connection), facts(connection, progress.signed_by.take()));
        Ok(Accepted::Client(Box::new(Established { stream, sni, protocol, handshake, identity })))
    }

    /// Runs the handshake, each of its steps in a fiber: it has a stack while it computes or awaits a signature, and none
    /// while it awaits the client. So clients that leave their handshakes unfinished don't use up the room for fibers.
    async fn in_fibers<F: Future + 'static>(
        &self,
        mut handshake: Pin<Box<F>>,
        progress: &Rc<InProgress>,
    ) -> Result<F::Output, HandshakeError> {
        loop {
            let queued = Instant::now();
            // At once in the first step, and once it has signed; not if the client had to choose another group.
            if let Err(QueueIsFull) = progress.signing.enter().await {
                progress.refuse();
            }
            // Never closed.
            let permit = self.fibers.acquire().await;
            self.metrics.timings.queue.observe(queued.elapsed());
            let permit = permit.map_err(|error| HandshakeError::NoStack(io::Error::other(error)))?;
            let step = async move {
                let polled = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
                (handshake, polled)
            };
            let fiber = Fiber::new(&self.stacks, step).map_err(HandshakeError::NoStack)?;
            let (unfinished, polled) = CURRENT.scope(Rc::clone(progress), fiber).await;
            drop(permit);
            progress.signing.leave();
            if let Poll::Ready(output) = polled {
                return Ok(output);
            }
            handshake = unfinished;
            next_poll().await;
        }
    }
}

/// A session that resumes brings the client's certificate from its ticket, which rustls does not verify again: it may have
/// expired, and so may a list of revoked ones.
fn still_good(clients: &ClientCertificates, connection: &ServerConnection) -> Result<(), rustls::Error> {
    if connection.handshake_kind() != Some(HandshakeKind::Resumed) {
        return Ok(());
    }
    let Some([own, intermediates @ ..]) = connection.peer_certificates() else { return Ok(()) };
    clients.verifier().verify_client_cert(own, intermediates, UnixTime::now()).map(drop)
}

/// Suspends the task until what it polled before wakes it.
pub(crate) async fn next_poll() {
    let mut suspended = false;
    poll_fn(|_| if std::mem::replace(&mut suspended, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

async fn refuse<IO: AsyncWrite + Unpin>(io: &mut IO, alert: &[u8], error: HandshakeError) -> HandshakeError {
    let sent = async {
        io.write_all(alert).await?;
        io.shutdown().await
    };
    match sent.await {
        Ok(()) => error,
        Err(gone) => HandshakeError::Gone(gone),
    }
}

fn protocol(connection: &ServerConnection) -> Protocol {
    match connection.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

fn facts(connection: &ServerConnection, signed_by: Option<Arc<str>>) -> Handshake {
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    let group = connection.negotiated_key_exchange_group().map(SupportedKxGroup::name);
    Handshake {
        version: connection.protocol_version().and_then(|version| version.as_str()).map_or("", version_name),
        cipher_suite: suite.and_then(|suite| suite.as_str()).unwrap_or_default(),
        group: group.and_then(|group| group.as_str()).unwrap_or_default(),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        signed_by,
    }
}

/// As OpenSSL and nginx write it.
fn version_name(name: &'static str) -> &'static str {
    match name {
        "TLSv1_2" => "TLSv1.2",
        "TLSv1_3" => "TLSv1.3",
        other => other,
    }
}
