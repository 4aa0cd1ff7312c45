//! The admin listener: is the process alive, can it sign, what did it count. Plain HTTP/1.1, without authentication.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::keys::SignerStatus;
use crate::metrics::quoted;
use crate::shutdown::Shutdown;
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
}

impl Admin {
    pub(crate) fn new(listener: TcpListener, shared: Arc<Shared>) -> Self {
        Self { listener, shared }
    }

    /// Serves as long as the worker runs, through the drain: `/readyz` says 503 from its beginning.
    pub(crate) async fn serve(self, shutdown: Shutdown) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (shared, shutdown) = (Arc::clone(&self.shared), shutdown.clone());
            tokio::task::spawn_local(async move {
                // Whoever asks too slowly is cut off; nothing is to be done about it.
                let _ = timeout(LIFETIME, connection(stream, shared, shutdown)).await;
                drop(permit);
            });
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, shutdown: Shutdown) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &shared, &shutdown);
        async move { Ok::<_, Infallible>(response) }
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

fn answer(method: &Method, path: &str, shared: &Shared, shutdown: &Shutdown) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD only\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => {
            let signers = shared.keys.signers();
            let ready = is_ready(&signers) && !shutdown.is_requested();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            respond(status, "application/json", readiness(ready, shutdown.is_requested(), &signers))
        }
        "/metrics" => {
            let text = shared.metrics.render(&shared.keys.signers());
            respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        _ => respond(StatusCode::NOT_FOUND, TEXT, "/healthz, /readyz or /metrics\n".to_owned()),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Ready means that a new handshake can be signed: by any one engine.
pub(crate) fn is_ready(signers: &[SignerStatus]) -> bool {
    signers.is_empty() || signers.iter().any(|signer| signer.up)
}

fn readiness(ready: bool, draining: bool, signers: &[SignerStatus]) -> String {
    let engines: Vec<String> = signers
        .iter()
        .map(|signer| {
            let (name, state) = (quoted(&signer.name), quoted(&signer.state));
            format!("{{\"engine\":{name},\"up\":{},\"state\":{state}}}", signer.up)
        })
        .collect();
    format!("{{\"ready\":{ready},\"draining\":{draining},\"engines\":[{}]}}\n", engines.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(name: &str, up: bool) -> SignerStatus {
        SignerStatus { name: name.to_owned(), up, state: "a \"b\"\n".to_owned(), answers: 0, losses: 0 }
    }

    #[test]
    fn one_engine_is_enough_and_none_is_not() {
        assert!(is_ready(&[]), "keys that nobody could take away");
        assert!(is_ready(&[engine("0", false), engine("1", true)]));
        assert!(!is_ready(&[engine("0", false), engine("1", false)]));
    }

    #[test]
    fn readiness_is_json_whatever_an_error_says() {
        assert_eq!(
            readiness(true, false, &[engine("/run/e.sock", true)]),
            "{\"ready\":true,\"draining\":false,\"engines\":[{\"engine\":\"/run/e.sock\",\"up\":true,\
             \"state\":\"a \\\"b\\\" \"}]}\n"
        );
    }
}
