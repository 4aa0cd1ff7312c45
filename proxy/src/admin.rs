//! The admin listener: is the process alive, can it sign, what did it count, and a page that shows it. Plain HTTP/1.1,
//! without authentication.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::HostPattern;
use crate::metrics::{self, quoted};
use crate::shutdown::Shutdown;
use crate::status::{PAGE, Status, page};
use crate::views::View;
use crate::worker::Shared;

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;

/// A connection lives no longer: a probe or a scrape takes milliseconds.
const LIFETIME: Duration = Duration::from_secs(60);

/// From accepting to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Admin {
    listener: TcpListener,
    shared: Arc<Shared>,
    status: Rc<Status>,
}

/// Takes samples as long as the listener is served.
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Admin {
    pub(crate) fn new(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let status = Rc::new(Status::new(Arc::clone(&shared)));
        Self { listener, shared, status }
    }

    /// Serves as long as the worker runs, through the drain: `/readyz` says 503 from its beginning.
    pub(crate) async fn serve(self, shutdown: Shutdown) {
        let status = Rc::clone(&self.status);
        let _following = Following(tokio::task::spawn_local(async move { status.follow().await }));
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (shared, status, shutdown) =
                (Arc::clone(&self.shared), Rc::clone(&self.status), shutdown.clone());
            tokio::task::spawn_local(async move {
                // Whoever asks too slowly is cut off; nothing is to be done about it.
                let _ = timeout(LIFETIME, connection(stream, shared, status, shutdown)).await;
                drop(permit);
            });
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, status: Rc<Status>, shutdown: Shutdown) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, status, shutdown) = (Arc::clone(&shared), Rc::clone(&status), shutdown.clone());
        async move { Ok::<_, Infallible>(answer(&request, &shared, &status, &shutdown).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection");
    }
}

async fn answer(
    request: &Request<Incoming>,
    shared: &Shared,
    status: &Status,
    shutdown: &Shutdown,
) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let method = request.method();
    if method != Method::GET && method != Method::HEAD {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD only\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    if !matches!(path, "/healthz" | "/readyz") && !is_ours(request, &shared.generation.borrow().admin_hosts) {
        let text = "this name is not one of proxy.admin-hosts; ask by an IP address or by localhost\n";
        return respond(StatusCode::MISDIRECTED_REQUEST, TEXT, text.to_owned());
    }
    match path {
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => {
            let (view, draining) = (shared.views.all().await, shutdown.is_requested());
            let ready = view.ready && !draining;
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            respond(status, "application/json", readiness(ready, draining, &view))
        }
        "/metrics" => {
            let view = shared.views.all().await;
            let generation = Arc::clone(&shared.generation.borrow());
            let mut text = shared.metrics.render(&view, &generation.soonest(metrics::LISTED_CERTIFICATES));
            // Writing to a `String` does not fail.
            let _ = metrics::write_upstreams(&generation.upstreams, &mut text);
            let _ = metrics::write_staples(&generation.staples, &mut text);
            respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        "/" | "/status" => page(),
        "/status.json" => {
            respond(StatusCode::OK, "application/json", status.json(shutdown, since(request.uri())).await)
        }
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "/ (the status page), /status.json, /healthz, /readyz or /metrics\n".to_owned(),
        ),
    }
}

/// Whether it was asked by an IP address, by `localhost` or by one of these names: a page of any other site could have its own
/// name point here, and read the answers as its own (DNS rebinding). Programs that send no `Host` are no browsers.
fn is_ours(request: &Request<Incoming>, names: &[HostPattern]) -> bool {
    let Some(host) = request.headers().get(HOST) else { return request.uri().host().is_none() };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || names.iter().any(|name| host.eq_ignore_ascii_case(name.as_str()))
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn page() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::from_str(&page::CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The moment that a page has seen everything up to; 0, for all there is, if it does not say so.
fn since(uri: &Uri) -> u64 {
    let parameters = uri.query().unwrap_or_default().split('&');
    parameters.filter_map(|parameter| parameter.strip_prefix("since=")?.parse().ok()).next().unwrap_or(0)
}

fn readiness(ready: bool, draining: bool, view: &View) -> String {
    let engines: Vec<String> = view
        .signers
        .iter()
        .map(|signer| {
            let (name, state) = (quoted(&signer.name), quoted(&signer.state));
            format!("{{\"engine\":{name},\"up\":{},\"state\":{state}}}", signer.up)
        })
        .collect();
    format!(
        "{{\"ready\":{ready},\"draining\":{draining},\"silent-workers\":{},\"engines\":[{}]}}\n",
        view.silent,
        engines.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SignerStatus;

    #[test]
    fn readiness_is_json_whatever_an_error_says() {
        let (name, state) = ("/run/e.sock".to_owned(), "a \"b\"\n".to_owned());
        let signers = vec![SignerStatus { name, up: true, state, ..SignerStatus::default() }];
        assert_eq!(
            readiness(true, false, &View { ready: true, signers, ..View::default() }),
            "{\"ready\":true,\"draining\":false,\"silent-workers\":0,\"engines\":[{\"engine\":\"/run/e.sock\",\"up\":true,\
             \"state\":\"a \\\"b\\\" \"}]}\n"
        );
    }
}
