use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri};
use tokio::time::{Instant, sleep};

use super::pool::{Lease, Pool};
use super::{Answer, Settings};
use crate::body::{Gate, Progress, RequestBody};
use crate::respond::Failure;

/// A request as it goes to an upstream.
pub(crate) struct Outgoing {
    pub(crate) request: Request<RequestBody>,
    /// How far its body is; `None` if it has none.
    pub(crate) progress: Option<Rc<Progress>>,
    /// Holds its body back, if the client waits for `100 Continue`.
    pub(crate) gate: Option<Gate>,
}

pub(super) async fn send(
    pool: &Rc<Pool>,
    settings: &Settings,
    outgoing: Outgoing,
) -> Result<Answer, Failure> {
    let Outgoing { mut request, progress, gate } = outgoing;
    let mut kept = pool.take();
    loop {
        let is_kept = kept.is_some();
        let connection = match kept.take() {
            Some(connection) => connection,
            None => pool.open(settings).await?,
        };
        let again = if is_kept { Repeat::of(&request) } else { None };
        let mut lease = Lease::new(connection, Rc::clone(pool), gate.clone());
        if let Some(gate) = gate.clone() {
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        let sent = lease.sender().try_send_request(request);
        let answered = within(settings.response, progress.as_deref(), sent).await?;
        let mut error = match answered {
            Ok(response) => {
                if let Some(gate) = &gate {
                    gate.answered();
                }
                return Ok((response, lease));
            }
            Err(error) => error,
        };
        // Only a kept connection may have been closed by the upstream for no fault of this request.
        request = match (is_kept, error.take_message(), again) {
            (true, Some(unsent), _) => unsent,
            (true, None, Some(again)) if is_lost(error.error()) => again.request(),
            _ => return Err(blame(error.into_error(), progress.as_deref())),
        };
    }
}

/// What it takes to send a request a second time.
struct Repeat {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Repeat {
    /// `None` if it might do harm, or its body can't be had again.
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        let repeatable = request.method().is_idempotent() && request.body().is_empty();
        repeatable.then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
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
        return Failure::UpstreamBroken("its response is not HTTP/1.1");
    }
    Failure::UpstreamLost(error)
}
