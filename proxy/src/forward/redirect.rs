//! The listener in plain HTTP: it sends clients to the same place over HTTPS, and nowhere else.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};

use super::target::{Target, origin_form};
use super::{Client, Forwarder};
use crate::acme::HTTP_01_PATH;
use crate::body::Source;
use crate::headers;
use crate::journal::Record;
use crate::respond::Failure;

/// Answers a request that came in plain text. Only hosts of sites are answered for.
pub(super) fn redirect(
    client: &Client,
    port: u16,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<Response<Source>, Failure> {
    let (parts, body) = request.into_parts();
    headers::check_framing(&parts.headers)?;
    let target = Target::of(&parts)?;
    let site = client.sites.find(target.host).ok_or(Failure::Misdirected)?;
    record.is_for(site);
    let Forwarder { clients, limits, .. } = &*client.forwarder;
    clients.request(client.connection.remote.ip(), limits).map_err(Failure::TooManyRequests)?;
    let host = target.host.to_ascii_lowercase();
    let mut response = if parts.uri.path().starts_with(HTTP_01_PATH) {
        // Certificate authorities look here over plain HTTP, so it stays here.
        let answer = site.challenges.as_ref().and_then(|challenges| challenges.over_http(parts.uri.path()));
        if let Some(answer) = answer {
            let mut response = Response::new(Source::own(Bytes::from(answer)));
            let binary = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, binary);
            return Ok(response);
        }
        let mut response = Response::new(Bytes::from_static(b"404 Not Found: no such challenge\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    } else {
        let location = location(&host, port, parts.uri);
        let safe = parts.method == Method::GET || parts.method == Method::HEAD;
        // 301 lets clients make a GET of a POST; 308 does not (RFC 9110, section 15.4).
        let status = if safe { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
        let mut response = Response::new(Bytes::from(format!("{status}: {location}\n")));
        *response.status_mut() = status;
        let invalid = |_| Failure::BadRequest("the request target is no path");
        response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).map_err(invalid)?);
        response
    };
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    // A body that nobody reads ends the connection.
    if !body.is_end_stream() {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(Source::own))
}

fn location(host: &str, port: u16, uri: Uri) -> String {
    let uri = origin_form(uri);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    match port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_same_over_https() {
        for (port, uri, expected) in [
            (443, "/a?b=c", "https://a.example/a?b=c"),
            (8443, "/", "https://a.example:8443/"),
            (443, "http://a.example/x", "https://a.example/x"),
            (443, "*", "https://a.example/"),
            (443, "//evil.example/x", "https://a.example//evil.example/x"),
        ] {
            assert_eq!(location("a.example", port, uri.parse().unwrap()), expected);
        }
    }
}
