use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version};

use crate::respond::Failure;

/// What a request asks for: whose site, and what of it.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// Host and port as the client wrote them (RFC 3986, section 3.2, without user information).
    pub(super) authority: &'a str,
    /// The host alone: no port, no trailing dot, in the client's case.
    pub(super) host: &'a str,
    /// Whether a `Host` field with exactly this authority is in the request already.
    pub(super) host_is_sent: bool,
}

impl<'a> Target<'a> {
    /// Finds it in a request's head and refuses requests that leave a doubt (RFC 9112, section 3.2; RFC 9113, section
    /// 8.3.1).
    pub(super) fn of(request: &'a Parts) -> Result<Self, Failure> {
        if request.method == Method::CONNECT || request.method == Method::TRACE {
            return Err(Failure::MethodNotAllowed);
        }
        check_path(request)?;
        let mut fields = request.headers.get_all(HOST).iter();
        let field = fields.next();
        if fields.next().is_some() {
            return Err(Failure::BadRequest("more than one Host field"));
        }
        let field = match field {
            Some(field) => {
                Some(field.to_str().map_err(|_| Failure::BadRequest("the Host field is not a host name"))?)
            }
            None => None,
        };
        let from_uri = request.uri.authority().map(http::uri::Authority::as_str);
        let authority = match (from_uri, field) {
            // RFC 9112 has the request line win; servers that see the field only would answer for another site.
            (Some(uri), Some(field)) if !uri.eq_ignore_ascii_case(field) => {
                return Err(Failure::BadRequest("the request target and the Host field differ"));
            }
            (Some(_), None) if request.version == Version::HTTP_11 => {
                return Err(Failure::BadRequest("no Host field"));
            }
            (Some(uri), _) => uri,
            (None, Some(field)) => field,
            (None, None) => return Err(Failure::BadRequest("no Host field")),
        };
        let host = host_of(authority).ok_or(Failure::BadRequest("the Host field is not a host name"))?;
        Ok(Self { authority, host, host_is_sent: field == Some(authority) })
    }
}

/// The request's path and query alone, as it goes upstream.
pub(super) fn origin_form(uri: Uri) -> Uri {
    if uri.scheme().is_none() && uri.authority().is_none() {
        return uri;
    }
    Uri::from(uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")))
}

fn check_path(request: &Parts) -> Result<(), Failure> {
    let uri = &request.uri;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(Failure::BadRequest("the scheme is neither http nor https")),
        // The form of CONNECT, with another method.
        None if uri.authority().is_some() && request.version != Version::HTTP_2 => {
            return Err(Failure::BadRequest("the request target is no path"));
        }
        None => {}
    }
    let path = uri.path();
    if path.starts_with('/') || path.is_empty() || (path == "*" && request.method == Method::OPTIONS) {
        Ok(())
    } else {
        Err(Failure::BadRequest("the request target is no path"))
    }
}

/// The host of an authority; `None` if it is no `host [":" port]`, with a name, an IPv4 address or an IPv6 address in
/// brackets.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            if !rest[..end].bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.') {
                return None;
            }
            (&authority[..end + 2], &authority[end + 2..])
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let host = &authority[..end];
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if !host.bytes().all(allowed) {
                return None;
            }
            (host, &authority[end..])
        }
    };
    let port_is_valid = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (port_is_valid && !host.is_empty() && host.len() <= 255).then_some(host)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(version: Version, method: &str, uri: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_host_is_what_the_client_asked_for() {
        use Version as V;
        for (version, uri, hosts, host) in [
            (V::HTTP_11, "/", &["example.org"][..], "example.org"),
            (V::HTTP_11, "/a?b", &["Example.org:8443"], "Example.org"),
            (V::HTTP_11, "/", &["example.org."], "example.org"),
            (V::HTTP_11, "/", &["example.org.:443"], "example.org"),
            (V::HTTP_11, "/", &["[::1]:8443"], "[::1]"),
            (V::HTTP_11, "https://example.org/x", &["Example.org"], "example.org"),
            (V::HTTP_10, "http://example.org:80", &[], "example.org"),
            (V::HTTP_2, "https://example.org/x", &[], "example.org"),
            (V::HTTP_2, "https://example.org/x", &["EXAMPLE.org"], "example.org"),
        ] {
            let parts = parts(version, "GET", uri, hosts);
            assert_eq!(Target::of(&parts).unwrap().host, host, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn doubtful_requests_are_refused() {
        use Version as V;
        for (version, method, uri, hosts) in [
            (V::HTTP_11, "GET", "/", &[][..]),
            (V::HTTP_11, "GET", "/", &[""]),
            (V::HTTP_11, "GET", "/", &["a", "a"]),
            (V::HTTP_11, "GET", "/", &["a b"]),
            (V::HTTP_11, "GET", "/", &["a, b"]),
            (V::HTTP_11, "GET", "/", &["a/b"]),
            (V::HTTP_11, "GET", "/", &["user@a"]),
            (V::HTTP_11, "GET", "/", &["a:b"]),
            (V::HTTP_11, "GET", "/", &["a:123456"]),
            (V::HTTP_11, "GET", "/", &["[::1"]),
            (V::HTTP_11, "GET", "/", &["[::1]x"]),
            (V::HTTP_11, "GET", "/", &["."]),
            (V::HTTP_11, "GET", "*", &["a"]),
            (V::HTTP_11, "GET", "a:80", &["a"]),
            (V::HTTP_11, "GET", "ftp://a/", &["a"]),
            (V::HTTP_11, "GET", "https://a/", &["b"]),
            (V::HTTP_11, "GET", "https://a/", &["a:8443"]),
            (V::HTTP_11, "GET", "https://a/", &[]),
            (V::HTTP_2, "GET", "https://a/", &["b"]),
            (V::HTTP_2, "GET", "https://user@a/", &[]),
            (V::HTTP_11, "CONNECT", "a:80", &["a"]),
            (V::HTTP_11, "TRACE", "/", &["a"]),
        ] {
            let parts = parts(version, method, uri, hosts);
            assert!(Target::of(&parts).is_err(), "{method} {uri} {hosts:?}");
        }
    }

    #[test]
    fn only_path_and_query_go_upstream() {
        for (uri, upstream) in [
            ("/a?b=c", "/a?b=c"),
            ("https://example.org/a?b", "/a?b"),
            ("https://example.org", "/"),
            ("*", "*"),
        ] {
            assert_eq!(origin_form(uri.parse().unwrap()).to_string(), upstream);
        }
    }
}
