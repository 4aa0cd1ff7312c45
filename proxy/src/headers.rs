//! What happens to header fields on their way through (RFC 9110, section 7.6).
//!
//! Fields that concern one connection only are removed. What a client says about where it came from is never believed:
//! `Forwarded`, `X-Forwarded-*` and `X-Real-IP` are replaced by what this proxy knows. There is no `Via`: it tells
//! upstreams nothing that `Forwarded` does not, and makes some of them (nginx) switch compression off.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::client_identity::is_claim_of_identity;
use crate::connection::ClientConnection;
use crate::respond::Failure;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// What this proxy tells upstreams of one client's connection.
pub(crate) struct Forwarding {
    address: HeaderValue,
    /// For the authority that was asked for last, which is nearly always the same.
    last: RefCell<Option<ForAuthority>>,
}

/// The same, with what one request asked for.
#[derive(Clone)]
pub(crate) struct ForAuthority {
    address: HeaderValue,
    authority: HeaderValue,
    /// RFC 7239.
    forwarded: HeaderValue,
}

/// How a request's body is framed on the way upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length` as the client sent it, or no body with a method that expects none.
    AsSent,
    /// No body with a method that expects one (RFC 9110, section 8.6).
    Empty,
    /// A body of unknown length.
    Chunked,
}

impl Forwarding {
    /// The facts of `connection`.
    pub(crate) fn of(connection: &ClientConnection) -> Self {
        let address = connection.remote.ip().to_canonical().to_string();
        // An address has only characters that a field value may have.
        let address = HeaderValue::try_from(address).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, last: RefCell::new(None) }
    }

    /// What upstreams are told about a request for `authority`.
    ///
    /// # Errors
    ///
    /// [`Failure::BadRequest`] if the authority can't be a field value.
    pub(crate) fn about(&self, authority: &str) -> Result<ForAuthority, Failure> {
        let mut last = self.last.borrow_mut();
        if let Some(last) = last.as_ref().filter(|last| last.authority == authority) {
            return Ok(last.clone());
        }
        let invalid = |_| Failure::BadRequest("the Host field is not a host name");
        let address = self.address.to_str().unwrap_or("unknown");
        let forwarded = match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("for=\"[{address}]\";host=\"{authority}\";proto=https"),
            _ => format!("for={address};host=\"{authority}\";proto=https"),
        };
        let made = ForAuthority {
            address: self.address.clone(),
            authority: HeaderValue::try_from(authority).map_err(invalid)?,
            forwarded: HeaderValue::try_from(forwarded).map_err(invalid)?,
        };
        Ok(last.insert(made).clone())
    }
}

impl ForAuthority {
    /// Writes `Forwarded`, `X-Forwarded-*` and, unless it is there already, `Host`.
    pub(crate) fn write(self, headers: &mut HeaderMap, host_is_sent: bool) {
        if !host_is_sent {
            headers.insert(HOST, self.authority.clone());
        }
        headers.insert(FORWARDED, self.forwarded);
        headers.insert(X_FORWARDED_FOR, self.address);
        headers.insert(X_FORWARDED_HOST, self.authority);
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
}

/// Refuses requests whose end another server could see elsewhere (RFC 9112, section 6.3; RFC 9113, section 8.2.2).
///
/// For HTTP/1, hyper and the connection's inspector have refused them already; this is what they must leave.
pub(crate) fn check_framing(headers: &HeaderMap) -> Result<(), Failure> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Failure::BadRequest("more than one Content-Length field"));
    }
    if length.is_some_and(|length| !is_number(length)) {
        return Err(Failure::BadRequest("Content-Length is not a number"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next(), length) {
        (None, _, _) => Ok(()),
        (Some(coding), None, None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), None, Some(_)) => Err(Failure::BadRequest("both Content-Length and Transfer-Encoding")),
        _ => Err(Failure::BadRequest("Transfer-Encoding is not chunked")),
    }
}

/// Makes a request's fields those of the request to the upstream, all but what [`ForAuthority::write`] adds.
pub(crate) fn prepare_request(headers: &mut HeaderMap, framing: Framing, websocket: bool) {
    let trailers = accepts_trailers(headers);
    remove_where(headers, |name| is_hop_by_hop(name) || is_claim_of_origin(name));
    match framing {
        Framing::AsSent => {}
        Framing::Empty => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"))),
        Framing::Chunked => drop(headers.insert(TRANSFER_ENCODING, CHUNKED)),
    }
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
}

/// Makes a request's trailers those of the request to the upstream: some servers take them for header fields, so those
/// that frame, route, authenticate or describe the request are not passed on (RFC 9110, section 6.5.1).
pub(crate) fn prepare_trailers(trailers: &mut HeaderMap) {
    const NOT_IN_TRAILERS: [HeaderName; 11] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        HOST,
        RANGE,
        TRAILER,
    ];
    remove_where(trailers, |name| {
        is_hop_by_hop(name) || is_claim_of_origin(name) || NOT_IN_TRAILERS.contains(name)
    });
}

/// Makes an upstream's fields those of the response to the client.
///
/// # Errors
///
/// [`Failure::UpstreamBroken`] if the body has a transfer coding that nobody here could undo.
pub(crate) fn prepare_response(
    headers: &mut HeaderMap,
    length: Option<u64>,
    websocket: bool,
) -> Result<(), Failure> {
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Failure::UpstreamBroken("its response has an unknown transfer coding"));
        }
        // RFC 9112, section 6.3: chunked wins, and what contradicts it must not get any further.
        headers.remove(CONTENT_LENGTH);
    }
    if headers.get(CONTENT_LENGTH).is_some_and(|length| !is_number(length))
        || headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
    {
        match length {
            Some(length) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
            None => drop(headers.remove(CONTENT_LENGTH)),
        }
    }
    remove_where(headers, is_hop_by_hop);
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    }
    Ok(())
}

/// Gives each value bytes of its own, before it goes over HTTP/2.
///
/// Values are pieces of the buffer that their message was read into, 8 KiB or more. A connection of HTTP/2 keeps the fields that
/// it sent last, up to 4 KiB by their length (RFC 7541, section 2.3.2), and would keep the whole buffer of each.
pub(crate) fn detach(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        // Its bytes are a value's already.
        let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
        own.set_sensitive(value.is_sensitive());
        *value = own;
    }
}

/// Whether the client asks for a WebSocket (RFC 6455). Other protocols are not offered to upstreams: `h2c` would carry
/// requests past the rules of this proxy.
pub(crate) fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && tokens(headers, CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Whether an upstream has switched to a WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Whether the client waits for `100 Continue` before it sends its body (RFC 9110, section 10.1.1).
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(TE) && tokens(headers, TE).any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// Removes the fields that `is_removed` names and those that `Connection` names.
fn remove_where(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let mut removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    if headers.contains_key(CONNECTION) {
        // What frames or routes the message is not the client's to remove.
        removed.extend(
            tokens(headers, CONNECTION)
                .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
                .filter(|name| *name != HOST && *name != CONTENT_LENGTH),
        );
    }
    for name in removed {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION].contains(name)
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | "proxy-authentication-info" | "http2-settings"
        )
}

/// Whether a field tells where a request came from, or would be taken for one that does: many servers treat `_` like `-`
/// (CGI), and `Proxy` becomes `HTTP_PROXY` there (CVE-2016-5385).
fn is_claim_of_origin(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if is_claim_of_identity(name) {
        return true;
    }
    let is = |claim: &str| {
        name.len() == claim.len()
            && name
                .iter()
                .zip(claim.bytes())
                .all(|(&byte, claim)| byte == claim || (claim == b'-' && byte == b'_'))
    };
    match name.first() {
        Some(b'x') => is("x-real-ip") || (name.len() > 12 && is_forwarded_prefix(name)),
        Some(b'f') => is("forwarded"),
        Some(b'p') => is("proxy"),
        _ => false,
    }
}

/// Whether it begins with `x-forwarded-`.
fn is_forwarded_prefix(name: &[u8]) -> bool {
    matches!(name, [b'x', b'-' | b'_', middle @ .., ]
        if middle.starts_with(b"forwarded") && matches!(middle.get(9), Some(b'-' | b'_')))
}

/// HTTP/2 may split the cookies over several fields; HTTP/1.1 has one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut joined = Vec::new();
    for cookie in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(cookie.as_bytes());
    }
    // Its parts were field values, so it is one.
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn is_number(value: &HeaderValue) -> bool {
    !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit)
}
