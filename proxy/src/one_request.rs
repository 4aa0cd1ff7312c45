//! A request of the proxy's own to a server that is no upstream: HTTP/1.1, one connection for it, everything bounded.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::upstream::{TrustError, trust_anchors};

/// How the proxy calls itself.
pub(crate) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("hsm-proxy/", env!("CARGO_PKG_VERSION")));

/// Longest time that a server may ask for by `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

/// TLS for HTTP/1.1 that trusts the anchors in the file `ca`, or the system's.
///
/// # Errors
///
/// If there are none.
pub(crate) fn trusting(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let anchors = trust_anchors(ca)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?
        .with_root_certificates(anchors)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Sends a request, and reads the whole of the response, of at most `longest` bytes; of one that is no success and has more, nothing
/// but its head. An IPv6 address may be in brackets. Takes as
/// long as the server likes: the caller bounds it.
///
/// # Errors
///
/// Those of the connection, of TLS and of HTTP.
pub(crate) async fn exchange(
    tls: Option<&Arc<ClientConfig>>,
    host: &str,
    port: u16,
    request: Request<Full<Bytes>>,
    longest: usize,
) -> io::Result<Response<Bytes>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    let Some(tls) = tls else { return over(stream, request, longest).await };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    over(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?, request, longest).await
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    longest: usize,
) -> io::Result<Response<Bytes>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let body = match Limited::new(body, longest).collect().await {
            Ok(body) => body.to_bytes(),
            // Why it was refused is not worth more.
            Err(_) if !parts.status.is_success() => Bytes::new(),
            Err(error) => return Err(io::Error::other(error)),
        };
        Ok(Response::from_parts(parts, body))
    };
    // The connection lives as long as this future does: nothing is left behind when it is dropped.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        response = &mut exchange => return response,
        // Its end may have brought the response's end.
        _ended = &mut connection => {}
    }
    exchange.await
}

/// How long to wait (RFC 9110, section 10.2.3): a number of seconds, or a time.
pub(crate) fn retry_after(text: &str) -> Option<Duration> {
    retry_after_at(text, SystemTime::now())
}

fn retry_after_at(text: &str, now: SystemTime) -> Option<Duration> {
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
            assert_eq!(retry_after_at(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
