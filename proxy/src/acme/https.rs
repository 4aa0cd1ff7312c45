//! Requests to the authority: HTTP/1.1 over TLS, one connection for each, everything bounded.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::failure::{Failure, Problem};
use crate::config::AcmeUrl;
use crate::one_request;

/// One request, from the name's resolution to the end of the response.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest body of a response, in bytes: a certificate chain is some 10 KiB.
const LONGEST: usize = 1024 * 1024;

/// Speaks to one authority.
pub(super) struct Https {
    tls: Arc<ClientConfig>,
    /// Whose host and port all addresses must have.
    directory: AcmeUrl,
    pub(super) patience: Duration,
}

/// The whole of a response.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Https {
    /// Asks the server of `directory` and no other; trusts the anchors in the file `ca`, or the system's.
    pub(super) fn new(ca: Option<&Path>, directory: &AcmeUrl) -> Result<Self, Failure> {
        Ok(Self { tls: one_request::trusting(ca)?, directory: directory.clone(), patience: PATIENCE })
    }

    /// Sends a request; with a body it is a JWS. Redirections are not followed.
    ///
    /// All addresses but the directory's come from the authority. It could have the proxy knock at any door of the networks that
    /// the proxy is in, so what is not at the directory's host and port is not asked: the other side of RFC 8555, section 10.4.
    pub(super) async fn request(
        &self,
        method: Method,
        url: &AcmeUrl,
        body: Option<Vec<u8>>,
    ) -> Result<Reply, Failure> {
        if !url.same_origin(&self.directory) {
            return Err(Failure::Elsewhere { host: url.host().to_owned(), port: url.port() });
        }
        match timeout(self.patience, self.exchange(method, url, body)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(Failure::Unreachable { host: url.host().to_owned(), source }),
            Err(_) => Err(Failure::Silent { host: url.host().to_owned(), after: self.patience }),
        }
    }

    async fn exchange(&self, method: Method, url: &AcmeUrl, body: Option<Vec<u8>>) -> io::Result<Reply> {
        let mut request = Request::new(Full::new(Bytes::from(body.unwrap_or_default())));
        *request.method_mut() = method;
        *request.uri_mut() =
            url.uri().path_and_query().map_or("/", |path| path.as_str()).parse().map_err(io::Error::other)?;
        let host = url.uri().authority().map_or("", |authority| authority.as_str());
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(host).map_err(io::Error::other)?);
        headers.insert(USER_AGENT, one_request::AGENT);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if request.method() == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jose+json"));
        }
        let exchange = one_request::exchange(Some(&self.tls), url.host(), url.port(), request, LONGEST);
        let (parts, body) = exchange.await?.into_parts();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }
}

impl Reply {
    /// A field's value, if it is text.
    pub(super) fn field(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long to wait (RFC 9110, section 10.2.3).
    pub(super) fn retry_after(&self) -> Option<Duration> {
        one_request::retry_after(self.field(&RETRY_AFTER)?)
    }

    /// The response, if it is a success; else the authority's problem.
    pub(super) fn success(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        let problem = serde_json::from_slice::<Problem>(&self.body);
        let problem = problem.unwrap_or_else(|_| Problem::of_status(self.status));
        Err(Failure::Refused { problem, retry_after: self.retry_after() })
    }

    /// The body as JSON of this type.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            tracing::debug!(%error, "the authority's JSON");
            Failure::Malformed("its JSON is not what RFC 8555 says")
        })
    }
}
