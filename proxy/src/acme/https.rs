//! Requests to the authority: HTTP/1.1 over TLS, one connection for each, everything bounded.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::failure::{Failure, Problem};
use crate::config::AcmeUrl;
use crate::upstream::trust_anchors;

/// One request, from the name's resolution to the end of the response.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest body of a response, in bytes: a certificate chain is some 10 KiB.
const LONGEST: usize = 1024 * 1024;

/// Longest time that an authority may ask for by `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) struct Https {
    tls: Arc<ClientConfig>,
}

/// The whole of a response.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Https {
    /// Trusts the anchors in the file `ca`, or the system's.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, Failure> {
        let anchors = trust_anchors(ca)?;
        let tls = |error| Failure::Trust(crate::upstream::TrustError::Tls(error));
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(anchors)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config) })
    }

    /// Sends a request; with a body it is a JWS.
    pub(super) async fn request(
        &self,
        method: Method,
        url: &AcmeUrl,
        body: Option<Vec<u8>>,
    ) -> Result<Reply, Failure> {
        match timeout(PATIENCE, self.exchange(method, url, body)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(Failure::Unreachable { host: url.host().to_owned(), source }),
            Err(_) => Err(Failure::Silent { host: url.host().to_owned(), after: PATIENCE }),
        }
    }

    async fn exchange(&self, method: Method, url: &AcmeUrl, body: Option<Vec<u8>>) -> io::Result<Reply> {
        let host = url.host().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, url.port())).await?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut request = Request::new(Full::new(Bytes::from(body.unwrap_or_default())));
        *request.method_mut() = method;
        *request.uri_mut() =
            url.uri().path_and_query().map_or("/", |path| path.as_str()).parse().map_err(io::Error::other)?;
        let host = url.uri().authority().map_or("", |authority| authority.as_str());
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(host).map_err(io::Error::other)?);
        let agent = concat!("hsm-proxy/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if request.method() == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jose+json"));
        }
        let exchange = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(io::Error::other)?.to_bytes();
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        // The connection lives as long as this future does: nothing is left behind when it is dropped.
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            reply = &mut exchange => return reply,
            // Its end may have brought the response's end.
            _ended = &mut connection => {}
        }
        exchange.await
    }
}

impl Reply {
    /// A field's value, if it is text.
    pub(super) fn field(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long to wait (RFC 9110, section 10.2.3).
    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.field(&RETRY_AFTER)?, SystemTime::now())
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

/// Seconds, or a time.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let pause = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            // HTTP dates end with GMT, which RFC 2822 calls obsolete and still reads.
            let at: SystemTime = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?.into();
            at.duration_since(now).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_time_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("99999999999", Some(7 * 24 * 3600)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
