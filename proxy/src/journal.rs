//! What becomes of each request: counted, and written to the access log if there is one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{REFERER, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri, Version};
use time::OffsetDateTime;

use crate::abuse::Abuse;
use crate::access_log::{Entry, Lines, PassedEntry};
use crate::connection::ClientConnection;
use crate::metrics::{Metrics, SiteRequests};
use crate::sites::Site;
use crate::throttle::Throttle;
use crate::traces::{HandshakeFacts, SpanRef, Traced, Tracer};

/// Where one worker writes down what becomes of requests.
#[derive(Default)]
pub(crate) struct Journal {
    metrics: Arc<Metrics>,
    lines: Option<Rc<Lines>>,
    tracer: Option<Rc<Tracer>>,
    complaints: Throttle,
}

/// One request, from its head to the end of its response. It is written down when it is dropped.
pub(crate) struct Record {
    counts: Arc<SiteRequests>,
    status: Option<u16>,
    bytes: u64,
    /// For the access log, or a trace that is told.
    line: Option<Box<Line>>,
    traced: Option<Rc<Traced>>,
}

struct Line {
    lines: Option<Rc<Lines>>,
    connection: Rc<ClientConnection>,
    site: Option<Arc<Site>>,
    start: Instant,
    received: OffsetDateTime,
    method: Method,
    uri: Uri,
    version: Version,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Journal {
    pub(crate) fn new(metrics: Arc<Metrics>, lines: Option<Rc<Lines>>, tracer: Option<Rc<Tracer>>) -> Self {
        Self { metrics, lines, tracer, complaints: Throttle::new() }
    }

    /// A connection was ended for what its client sent. Logs a line each second at most, with how many it stands for.
    pub(crate) fn abused(&self, client: SocketAddr, abuse: Abuse) {
        self.metrics.abuses.count(abuse);
        if let Some(held_back) = self.complaints.pass() {
            let client = client.ip().to_canonical();
            tracing::warn!(%client, kind = %abuse, held_back, "HTTP/2 connection ended for abuse");
        }
    }

    /// Tells of a handshake, if traces are told; by what, if this one was.
    pub(crate) fn handshake(&self, facts: &HandshakeFacts<'_>) -> Option<SpanRef> {
        self.tracer.as_ref()?.handshake(facts)
    }

    /// Writes down a connection that was passed on, and has ended.
    pub(crate) fn passed(&self, entry: &PassedEntry<'_>) {
        if let Some(lines) = &self.lines {
            lines.write_passed(entry);
        }
    }

    /// Begins with a request whose head is there.
    pub(crate) fn begin<B>(&self, connection: &Rc<ClientConnection>, request: &Request<B>) -> Record {
        let traced = self.tracer.as_ref().map(|tracer| tracer.request(request.headers()));
        let is_told = traced.as_ref().is_some_and(|traced| traced.is_sampled());
        let line = (is_told || self.lines.is_some()).then(|| {
            let field = |name| request.headers().get(name).cloned();
            Box::new(Line {
                lines: self.lines.clone(),
                connection: Rc::clone(connection),
                site: None,
                start: Instant::now(),
                received: OffsetDateTime::now_utc(),
                method: request.method().clone(),
                uri: request.uri().clone(),
                version: request.version(),
                referer: field(REFERER),
                user_agent: field(USER_AGENT),
            })
        });
        Record { counts: Arc::clone(&self.metrics.requests.no_site), status: None, bytes: 0, line, traced }
    }
}

impl Record {
    /// It is this site's.
    pub(crate) fn is_for(&mut self, site: &Arc<Site>) {
        self.counts = Arc::clone(&site.requests);
        if let Some(line) = &mut self.line {
            line.site = Some(Arc::clone(site));
        }
    }

    /// Its place in its trace, if there are traces.
    pub(crate) fn traced(&self) -> Option<Rc<Traced>> {
        self.traced.clone()
    }

    /// It is answered with this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// So many bytes of the response's body are on their way.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.counts.count(self.status, self.bytes);
        let Some(line) = self.line.take() else { return };
        let with_query = line.lines.as_ref().is_some_and(|lines| lines.with_query());
        let target = match line.uri.path_and_query() {
            Some(target) if with_query => target.as_str(),
            _ => line.uri.path(),
        };
        let handshake = &line.connection.handshake;
        let site = line.site.as_deref().map_or("", Site::name);
        let entry = Entry {
            received: line.received,
            took: line.start.elapsed(),
            client: line.connection.remote.ip(),
            site,
            host: line.uri.host().or(line.connection.sni.as_deref()).unwrap_or(site),
            method: &line.method,
            target,
            version: line.version,
            status: self.status.unwrap_or(Entry::CLIENT_GONE),
            is_client_gone: self.status.is_none(),
            bytes: self.bytes,
            referer: line.referer.as_ref(),
            user_agent: line.user_agent.as_ref(),
            tls_version: handshake.version,
            cipher_suite: handshake.cipher_suite,
            resumed: handshake.resumed,
            signed_by: handshake.signed_by.as_deref(),
            trace: self.traced.as_ref().map(|traced| traced.trace()),
            with_query,
        };
        if let Some(lines) = &line.lines {
            lines.write(&entry);
        }
        if let Some(traced) = &self.traced {
            traced.end(&entry, line.connection.traced.as_deref().copied());
        }
    }
}
