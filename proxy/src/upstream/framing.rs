use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};

use crate::body::RequestBody;
use crate::config::UpstreamScheme;
use crate::headers;
use crate::respond::Failure;

/// Makes a request one of HTTP/2: what frames it in HTTP/1.1 goes, and the host is the authority (RFC 9113, section 8.2.2
/// and 8.3.1). The server's `100 Continue` does not get here, so nobody waits for it.
pub(super) fn for_http2(request: &mut Request<RequestBody>, scheme: UpstreamScheme) -> Result<(), Failure> {
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    [CONNECTION, TRANSFER_ENCODING, EXPECT].iter().for_each(|name| drop(headers.remove(name)));
    headers::detach(headers);
    let Some(host) = headers.remove(HOST) else { return Ok(()) };
    let invalid = Failure::BadRequest("the Host field is not a host name");
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return Err(invalid) };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(match scheme {
        UpstreamScheme::Https => Scheme::HTTPS,
        UpstreamScheme::Http | UpstreamScheme::H2c => Scheme::HTTP,
    });
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| invalid)?;
    Ok(())
}

/// Makes a request that was meant for HTTP/2, and not sent, one of HTTP/1.1 again; others stay as they are.
pub(super) fn for_http1(request: &mut Request<RequestBody>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    *request.version_mut() = Version::HTTP_11;
    let parts = std::mem::take(request.uri_mut()).into_parts();
    let host = parts.authority.and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    if let Some(path) = parts.path_and_query {
        *request.uri_mut() = Uri::from(path);
    }
    let has_body = !request.body().is_empty();
    let headers = request.headers_mut();
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if headers.contains_key(TE) {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_http2_and_back() {
        let mut request = Request::post("/a?b").body(RequestBody::empty()).unwrap();
        for (name, value) in [("host", "example.org"), ("te", "trailers"), ("connection", "te"), ("x", "y")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let before = (request.uri().clone(), request.headers().clone());
        for_http2(&mut request, UpstreamScheme::Https).unwrap();
        assert_eq!(request.uri(), "https://example.org/a?b");
        assert_eq!(request.headers().len(), 2);
        for_http1(&mut request);
        assert_eq!((request.uri(), request.headers()), (&before.0, &before.1));
        assert_eq!(request.version(), Version::HTTP_11);
    }
}
