//! What requests and handshakes took, told to a collector: OpenTelemetry's traces, by OTLP over HTTP.
//!
//! A worker collects the spans of what has ended, and hands them in batches to a thread that sends them: no worker ever waits for
//! a collector, and what one can't take is dropped and counted.

mod context;
mod encode;
mod exporter;
mod ids;
mod span;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderValue};
use http::{Request, Version};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::access_log::Entry;
use crate::config::{UpstreamPlace, UpstreamUrl};
use crate::connection::{Handshake, Protocol};
use crate::hand_over::hand_over_soon;
use crate::handshake::{EngineTime, HandshakeError, SignatureTime};
use crate::respond::Failure;

pub(crate) use context::TraceId;
pub use exporter::TracesError;
pub(crate) use exporter::{Counts as SpanCounts, Exporter};
pub(crate) use span::SpanRef;

use context::{Parent, SpanId};
use ids::Ids;
use span::{Attributes, Span, SpanKind, Start};

/// Spans that a worker hands over at once.
const BATCH: usize = 64;

/// How long a span may wait for others.
const DELAY: Duration = Duration::from_millis(500);

/// One worker's end of the traces.
pub(crate) struct Tracer {
    exporter: Arc<Exporter>,
    ids: Ids,
    batch: RefCell<Vec<Span>>,
    /// Told of the first span of a batch.
    first: Rc<Notify>,
}

impl Tracer {
    /// To be called inside a `LocalSet`.
    pub(crate) fn new(exporter: Arc<Exporter>) -> Rc<Self> {
        let (ids, batch, first) = (Ids::default(), RefCell::default(), Rc::default());
        let tracer = Rc::new(Self { exporter, ids, batch, first });
        spawn_local(hand_over_soon(Rc::downgrade(&tracer), Rc::clone(&tracer.first), DELAY, Self::flush));
        tracer
    }

    /// Begins with a request whose head is there: in its client's trace if that is trusted, else in one of its own.
    pub(crate) fn request(self: &Rc<Self>, headers: &HeaderMap) -> Rc<Traced> {
        let settings = self.exporter.settings();
        let parent = if settings.trust_clients { Parent::of(headers) } else { None };
        let (trace, sampled) = match &parent {
            Some(parent) => (parent.trace, parent.sampled),
            None => self.begin(),
        };
        let (parent, state) = parent.map_or((None, None), |parent| (Some(parent.span), parent.state));
        let (tracer, span) = (Rc::clone(self), self.ids.span());
        Rc::new(Traced {
            tracer,
            trace,
            span,
            parent,
            state,
            sampled,
            start: Start::now(),
            attempts: Cell::new(0),
        })
    }

    /// A new trace, and whether it is one of those that are told.
    fn begin(&self) -> (TraceId, bool) {
        let trace = self.ids.trace();
        (trace, self.exporter.settings().sample.holds(trace.random()))
    }

    /// Tells of a handshake that has ended, if it is one of those that are told: a trace of its own, since the requests that follow
    /// are many, and may be others'.
    pub(crate) fn handshake(&self, facts: &HandshakeFacts<'_>) -> Option<SpanRef> {
        let (trace, sampled) = self.begin();
        if !sampled {
            return None;
        }
        let (id, end, start) = (self.ids.span(), Instant::now(), Start::since(facts.began));
        let mut attributes = Attributes::default();
        attributes.text("client.address", facts.client.to_canonical().to_string());
        attributes.maybe("server.address", facts.sni);
        match facts.outcome {
            Ok((handshake, protocol)) => {
                // Conventions: `tls` in OpenTelemetry's registry of attributes.
                attributes.maybe("tls.protocol.version", handshake.version.strip_prefix("TLSv"));
                attributes.text("tls.protocol.name", "tls");
                attributes.maybe("tls.cipher", Some(handshake.cipher_suite));
                attributes.maybe("tls.curve", Some(handshake.group));
                attributes.flag("tls.resumed", handshake.resumed);
                attributes
                    .text("tls.next_protocol", if protocol == Protocol::Http2 { "h2" } else { "http/1.1" });
            }
            Err(error) => {
                attributes.text("error.type", error.category().name());
                attributes.text("hsm_proxy.reason", error.to_string());
            }
        }
        if let Some(signature) = facts.signature {
            self.signature(facts, start, &signature, SpanRef { trace, span: id });
        }
        let (start, end) = (start.wall(), start.wall_at(end));
        let failed = facts.outcome.is_err();
        let (parent, state, link, name) = (None, None, None, "TLS handshake".into());
        let kind = SpanKind::Server;
        self.write(Span { trace, id, parent, state, kind, name, start, end, attributes, failed, link });
        Some(SpanRef { trace, span: id })
    }

    fn signature(
        &self,
        facts: &HandshakeFacts<'_>,
        began: Start,
        signature: &SignatureTime,
        within: SpanRef,
    ) {
        let mut attributes = Attributes::default();
        let engine = facts.outcome.ok().and_then(|(handshake, _)| handshake.signed_by.as_deref());
        attributes.maybe("hsm_proxy.engine", engine);
        let failed = matches!(facts.outcome, Err(HandshakeError::NoSignature(_)));
        if let Some(EngineTime { queued, computing }) = signature.engine {
            attributes.number("hsm_proxy.engine.queued_us", queued.as_micros());
            attributes.number("hsm_proxy.engine.computing_us", computing.as_micros());
        }
        let start = began.wall_at(signature.asked);
        let end = began.wall_at(signature.asked + signature.took);
        let SpanRef { trace, span } = within;
        let (id, parent, state, link) = (self.ids.span(), Some(span), None, None);
        let (kind, name) = (SpanKind::Client, "sign".into());
        self.write(Span { trace, id, parent, state, kind, name, start, end, attributes, failed, link });
    }

    fn write(&self, span: Span) {
        let mut batch = self.batch.borrow_mut();
        batch.push(span);
        if batch.len() >= BATCH {
            let full = std::mem::take(&mut *batch);
            self.exporter.hand_over(full);
        } else if batch.len() == 1 {
            self.first.notify_one();
        }
    }

    fn flush(&self) {
        let batch = self.batch.take();
        if !batch.is_empty() {
            self.exporter.hand_over(batch);
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.flush();
        self.first.notify_one();
    }
}

/// What is told of a handshake.
pub(crate) struct HandshakeFacts<'a> {
    pub(crate) began: Instant,
    pub(crate) client: IpAddr,
    pub(crate) sni: Option<&'a str>,
    pub(crate) outcome: Result<(&'a Handshake, Protocol), &'a HandshakeError>,
    pub(crate) signature: Option<SignatureTime>,
}

/// A request's place in its trace, whether that is told or not.
pub(crate) struct Traced {
    tracer: Rc<Tracer>,
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
    state: Option<HeaderValue>,
    sampled: bool,
    start: Start,
    /// How often it was sent to a server.
    attempts: Cell<u32>,
}

impl Traced {
    /// What its trace is called.
    pub(crate) fn trace(&self) -> TraceId {
        self.trace
    }

    /// Whether it is told.
    pub(crate) fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// Begins to ask a server, perhaps once more: the request's headers tell it the trace, instead of what the client said.
    pub(crate) fn attempt<B>(self: &Rc<Self>, request: &mut Request<B>, server: &UpstreamUrl) -> Attempt {
        let span = self.tracer.ids.span();
        let number = self.attempts.replace(self.attempts.get() + 1);
        let attributes = self.sampled.then(|| {
            let mut attributes = Attributes::default();
            attributes
                .text("http.request.method", known_method(request.method().as_str()).unwrap_or("_OTHER"));
            attributes.text("url.full", url_of(server, request.uri().path()));
            match server.place() {
                UpstreamPlace::Tcp { authority, port } => {
                    attributes.text("server.address", authority.host());
                    attributes.number("server.port", *port);
                }
                UpstreamPlace::Unix(path) => {
                    attributes.text("server.address", path.as_os_str().as_encoded_bytes());
                }
            }
            if number > 0 {
                attributes.number("http.request.resend_count", number);
            }
            attributes
        });
        context::write(request.headers_mut(), self.trace, span, self.sampled, self.state.as_ref());
        Attempt { of: Rc::clone(self), span, asked: Instant::now(), attributes: Cell::new(attributes) }
    }

    /// Tells of the request, if its trace is told. `over` is the handshake of its connection.
    pub(crate) fn end(&self, entry: &Entry<'_>, over: Option<SpanRef>) {
        if !self.sampled {
            return;
        }
        let end = Instant::now();
        let mut attributes = Attributes::default();
        let method = known_method(entry.method.as_str());
        attributes.text("http.request.method", method.unwrap_or("_OTHER"));
        if method.is_none() {
            attributes.text("http.request.method_original", entry.method.as_str());
        }
        let (path, query) = entry.target.split_once('?').map_or((entry.target, None), |(a, b)| (a, Some(b)));
        attributes.text("url.path", path);
        attributes.maybe("url.query", query);
        attributes.text("url.scheme", if entry.tls_version.is_empty() { "http" } else { "https" });
        attributes.maybe("server.address", Some(entry.host));
        attributes.text("client.address", entry.client.to_canonical().to_string());
        attributes.maybe("user_agent.original", entry.user_agent.map(HeaderValue::as_bytes));
        attributes.maybe("network.protocol.version", version_of(entry.version));
        if !entry.is_client_gone {
            attributes.number("http.response.status_code", entry.status);
        }
        attributes.number("http.response.body.size", entry.bytes);
        // That a request is wrong is the client's failure (conventions for HTTP spans, "Status").
        let failed = entry.status >= 500;
        if failed {
            attributes.text("error.type", entry.status.to_string());
        } else if entry.is_client_gone {
            attributes.text("error.type", "client_gone");
        }
        let state = self.state.as_ref().and_then(|state| state.to_str().ok()).map(str::to_owned);
        self.tracer.write(Span {
            trace: self.trace,
            id: self.span,
            parent: self.parent,
            state,
            kind: SpanKind::Server,
            name: method.unwrap_or("HTTP").into(),
            start: self.start.wall(),
            end: self.start.wall_at(end),
            attributes,
            failed,
            link: over,
        });
    }
}

/// A server that is asked: from then to the head of its response. Told when it is dropped.
pub(crate) struct Attempt {
    of: Rc<Traced>,
    span: SpanId,
    asked: Instant,
    /// `None` if the trace is not told.
    attributes: Cell<Option<Attributes>>,
}

impl Attempt {
    /// It answered with this status.
    pub(crate) fn answered(&self, status: u16) {
        self.end(|attributes| {
            attributes.number("http.response.status_code", status);
            // Unlike a server's span, a client's fails by the client's mistakes, too.
            if status >= 400 {
                attributes.text("error.type", status.to_string());
            }
            status >= 400
        });
    }

    /// It did not.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.end(|attributes| {
            attributes.text("error.type", failure.status().as_str());
            attributes.text("hsm_proxy.reason", failure.to_string());
            true
        });
    }

    fn end(&self, tell: impl FnOnce(&mut Attributes) -> bool) {
        let Some(mut attributes) = self.attributes.take() else { return };
        let failed = tell(&mut attributes);
        let of = &self.of;
        of.tracer.write(Span {
            trace: of.trace,
            id: self.span,
            parent: Some(of.span),
            state: None,
            kind: SpanKind::Client,
            name: "upstream".into(),
            start: of.start.wall_at(self.asked),
            end: of.start.wall_at(Instant::now()),
            attributes,
            failed,
            link: None,
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(|attributes| {
            attributes.text("error.type", "client_gone");
            true
        });
    }
}

/// What is asked for. A socket in the file system has no name in URLs, and HTTP/2 no scheme of its own.
fn url_of(server: &UpstreamUrl, path: &str) -> String {
    match server.place() {
        UpstreamPlace::Unix(_) => format!("http://localhost{path}"),
        UpstreamPlace::Tcp { .. } => {
            format!("{}{path}", server.to_string().replacen("h2c://", "http://", 1))
        }
    }
}

/// As the conventions have it.
fn version_of(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// Methods that are known to the conventions, whose number is bounded: clients may invent others.
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method)
}
