//! Every response that this proxy makes up itself: the one place where failures become HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode, Version};

/// Why a request got no response from an upstream, split by who is to blame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    // The client.
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("the method is not forwarded")]
    MethodNotAllowed,
    #[error("no site has this host name, or not on this connection")]
    Misdirected,
    #[error("limits.requests-per-ip or the site's max-requests is reached, for another {0:?}")]
    TooManyRequests(Duration),
    #[error("the request's body is longer than body-bytes")]
    BodyTooLarge,
    #[error("the request's body did not come in time")]
    BodyTimeout,
    #[error("the client broke its request off")]
    ClientGone,
    // The upstream.
    #[error("the upstream could not be reached: {0}")]
    Unreachable(std::io::Error),
    #[error("the upstream's name has no address: {0}")]
    NoAddress(std::io::Error),
    #[error("no TLS with the upstream: {0}")]
    UpstreamTls(std::io::Error),
    #[error("the upstream took no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("limits.upstream-connections is reached, and no connection became free within {0:?}")]
    NoRoom(Duration),
    #[error("the upstream has no server")]
    NoServer,
    #[error("as many requests as max-pending allows wait for a connection")]
    TooManyWait,
    #[error("the upstream did not answer within {0:?}")]
    ResponseTimeout(Duration),
    #[error("the upstream broke HTTP: {0}")]
    UpstreamBroken(&'static str),
    #[error("a WebSocket was asked for, and the upstream speaks HTTP/2 only")]
    NoUpgrade,
    #[error("the upstream's connection failed: {0}")]
    UpstreamLost(hyper::Error),
}

impl Failure {
    /// The status that says so.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::TooManyRequests(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unreachable(_)
            | Self::NoAddress(_)
            | Self::UpstreamTls(_)
            | Self::UpstreamBroken(_)
            | Self::NoUpgrade
            | Self::UpstreamLost(_) => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout(_) | Self::ResponseTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoom(_) | Self::TooManyWait | Self::NoServer => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the upstream is to blame, so that its operator should know.
    pub(crate) fn is_upstreams(&self) -> bool {
        self.status().is_server_error()
    }

    /// Whether it speaks against the server that was asked: one that has more to do than it may is well, and so is one
    /// whose client wants what it does not offer.
    pub(crate) fn is_servers_fault(&self) -> bool {
        self.is_upstreams()
            && !matches!(self, Self::NoRoom(_) | Self::TooManyWait | Self::NoServer | Self::NoUpgrade)
    }

    /// What the client may know: no addresses, nothing of the upstream's own errors.
    fn text(&self) -> &'static str {
        match self {
            Self::BadRequest(reason) => reason,
            Self::ClientGone => "the request broke off",
            Self::MethodNotAllowed => "this method is not forwarded",
            Self::Misdirected => "no site has this host name here",
            Self::TooManyRequests(_) => "too many requests: try again later",
            Self::BodyTooLarge => "the request's body is too long",
            Self::BodyTimeout => "the request's body did not come in time",
            Self::Unreachable(_) | Self::NoAddress(_) | Self::UpstreamTls(_) => {
                "the server behind this site can't be reached"
            }
            Self::UpstreamBroken(_) | Self::NoUpgrade | Self::UpstreamLost(_) => {
                "the server behind this site failed to answer"
            }
            Self::NoServer => "no server behind this site is up",
            Self::NoRoom(_) | Self::TooManyWait => "the server behind this site is busy",
            Self::ConnectTimeout(_) | Self::ResponseTimeout(_) => {
                "the server behind this site did not answer in time"
            }
        }
    }

    /// Whether the end of the request is in doubt, so that nothing may follow on its connection.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::BodyTooLarge
                | Self::BodyTimeout
                | Self::ClientGone
                | Self::MethodNotAllowed
        )
    }

    /// The response to a request of the given version. A client that asked with HEAD gets the fields only; hyper sees to
    /// that.
    pub(crate) fn response(&self, version: Version) -> Response<Bytes> {
        let status = self.status();
        let mut response = Response::new(Bytes::from(format!("{status}: {}\n", self.text())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.closes() && version != Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::TooManyRequests(wait) = self {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        if let Self::MethodNotAllowed = self {
            let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            headers.insert(ALLOW, allowed);
        }
        response
    }
}
