use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep};

use super::connect::Connection;
use super::framing;
use super::pool::{InFlight, Lease, Pool};
use super::{Answer, Settings};
use crate::body::{Gate, Progress, RequestBody};
use crate::config::UpstreamScheme;
use crate::connection::ClientConnection;
use crate::respond::Failure;
use crate::traces::Traced;

/// A request as it goes to an upstream.
pub(crate) struct Outgoing {
    pub(crate) request: Request<RequestBody>,
    /// How far its body is; `None` if it has none.
    pub(crate) progress: Option<Rc<Progress>>,
    /// Holds its body back, if the client waits for `100 Continue`.
    pub(crate) gate: Option<Gate>,
}

/// A request that got no response.
pub(super) struct Unanswered {
    pub(super) failure: Failure,
    /// The request, if it may be sent to another server: nothing of it was sent, or it does no harm twice.
    pub(super) again: Option<Outgoing>,
}

/// What comes of a request that was given to a connection; with the request, if nothing of it was sent.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Sends a request to one server: over the kept connection that was used last, or a new one.
///
/// If a kept one turns out to be dead, the request goes over a new one once more, provided that nothing of it was sent or
/// that it has no body and is idempotent (RFC 9110, section 9.2.2). `others` says whether there are other servers, for
/// which that rule gives the request back. Each time that it goes out is told to its trace, if it has one.
pub(super) async fn send(
    pool: &Rc<Pool>,
    settings: &Settings,
    client: &Rc<ClientConnection>,
    outgoing: Outgoing,
    others: bool,
    traced: Option<&Rc<Traced>>,
) -> Result<Answer, Unanswered> {
    let Outgoing { mut request, progress, gate } = outgoing;
    let mut in_flight = InFlight::begin(pool);
    let only_http1 = request.headers().contains_key(UPGRADE);
    let mut kept = pool.take(client, only_http1);
    loop {
        let is_kept = kept.is_some();
        let attempt = traced.map(|traced| traced.attempt(&mut request, &pool.server().url));
        let failed = |failure| {
            if let Some(attempt) = &attempt {
                attempt.failed(&failure);
            }
            failure
        };
        let connection = match kept.take() {
            Some(connection) => connection,
            // On the heap, for it is rare, and its room would be part of every request.
            None => match Box::pin(pool.open(settings, client, only_http1)).await {
                Ok(connection) => connection,
                Err(failure) => {
                    let again = Some(Outgoing { request, progress, gate });
                    return Err(Unanswered { failure: failed(failure), again });
                }
            },
        };
        if let Err(failure) = framed(&mut request, &connection, pool.server().url.scheme(), gate.as_ref()) {
            return Err(Unanswered { failure: failed(failure), again: None });
        }
        let again = if is_kept || others { Repeat::of(&request) } else { None };
        let mut lease = Lease::new(connection, in_flight, gate.clone());
        if let Some(gate) = gate.clone() {
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        let sent = lease.connection().send(request);
        let mut error = match within(settings.response, progress.as_deref(), sent).await {
            Ok(Ok(response)) => {
                if let Some(gate) = &gate {
                    gate.answered();
                }
                if let Some(attempt) = &attempt {
                    attempt.answered(response.status().as_u16());
                }
                return Ok((response, lease));
            }
            Ok(Err(error)) => error,
            Err(failure) => return Err(Unanswered { failure: failed(failure), again: None }),
        };
        in_flight = lease.give_up();
        let unsent = match (error.take_message(), again) {
            (Some(unsent), _) => Some(unsent),
            (None, Some(again)) if is_lost(error.error()) => Some(again.request()),
            (None, _) => None,
        };
        let failure = failed(blame(error.into_error(), progress.as_deref()));
        match unsent {
            // The upstream may have closed a kept connection for no fault of anybody's.
            Some(unsent) if is_kept => request = unsent,
            unsent => {
                let again = unsent.map(|request| Outgoing { request, progress, gate });
                return Err(Unanswered { failure, again });
            }
        }
    }
}

/// Frames a request for the connection that it goes over.
pub(super) fn framed(
    request: &mut Request<RequestBody>,
    connection: &Connection,
    scheme: UpstreamScheme,
    gate: Option<&Gate>,
) -> Result<(), Failure> {
    if !connection.is_http2() {
        framing::for_http1(request);
        return Ok(());
    }
    // Its `100 Continue` would not be heard.
    if let Some(gate) = gate {
        gate.open();
    }
    framing::for_http2(request, scheme)
}

/// What it takes to send a request a second time.
struct Repeat {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    version: Version,
}

impl Repeat {
    /// `None` if it might do harm, or its body can't be had again.
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        let repeatable = request.method().is_idempotent() && request.body().is_empty();
        repeatable.then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            version: request.version(),
        })
    }

    fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        *request.version_mut() = self.version;
        request
    }
}

/// Waits for the head of the response: `limit` from the end of the request, or since its body last moved while the
/// upstream could have taken more of it.
async fn within<F: Future>(
    limit: Duration,
    progress: Option<&Progress>,
    response: F,
) -> Result<F::Output, Failure> {
    let mut response = pin!(response);
    let mut timer = pin!(sleep(limit));
    loop {
        tokio::select! {
            biased;
            response = response.as_mut() => return Ok(response),
            () = timer.as_mut() => {
                let now = Instant::now();
                match progress.map(Progress::moved) {
                    Some(None) => timer.as_mut().reset(now + limit),
                    Some(Some(moved)) if moved + limit > now => timer.as_mut().reset(moved + limit),
                    _ => return Err(Failure::ResponseTimeout(limit)),
                }
            }
        }
    }
}

/// Whether the connection ended before anything of a response came.
fn is_lost(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user()
}

fn blame(error: hyper::Error, progress: Option<&Progress>) -> Failure {
    if let Some(failure) = progress.and_then(Progress::failure) {
        return failure;
    }
    if error.is_parse() {
        return Failure::UpstreamBroken("its response is not HTTP");
    }
    Failure::UpstreamLost(error)
}
