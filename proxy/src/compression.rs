//! Which responses are compressed on their way to the client, and what that changes about their fields (RFC 9110, sections
//! 8.4, 8.8.3 and 12.5.3).

mod encoder;
mod negotiation;

use std::cell::Cell;
use std::rc::Rc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, StatusCode};

pub(crate) use encoder::Encoder;
pub use negotiation::Coding;

/// Responses that a worker compresses at the same time; each has up to about a megabyte of state. Those beyond go out as
/// they are.
const AT_ONCE: usize = 256;

/// What a site compresses.
#[derive(Debug, Clone, Default)]
pub struct Compression {
    /// What it offers, what it likes best first. None if empty.
    pub codings: Vec<Coding>,
    /// The least length in bytes, where the length is known.
    pub min_size: usize,
}

/// What counts of a request, kept until its response is there.
pub(crate) struct Wish {
    coding: Option<Coding>,
    /// Whether the client has the response already in a compressed form.
    if_none_match: Option<HeaderValue>,
}

/// Room for compressors of one worker.
#[derive(Clone, Default)]
pub(crate) struct Room(Rc<Cell<usize>>);

/// One compressor's place.
pub(crate) struct Place(Rc<Cell<usize>>);

impl Room {
    fn take(&self) -> Option<Place> {
        (self.0.get() < AT_ONCE).then(|| {
            self.0.set(self.0.get() + 1);
            Place(Rc::clone(&self.0))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Compression {
    /// What a request with these fields wants. `None` if the site compresses nothing.
    pub(crate) fn wish(&self, request: &HeaderMap) -> Option<Wish> {
        if self.codings.is_empty() {
            return None;
        }
        let coding =
            if has_no_transform(request) { None } else { negotiation::choose(&self.codings, request) };
        Some(Wish { coding, if_none_match: request.get(IF_NONE_MATCH).cloned() })
    }

    /// Changes a response's fields to those of the compressed one, if it is to be compressed: then how.
    ///
    /// `length` is that of the body, if it is known. Responses that could have been compressed for another client say so by
    /// `Vary`.
    pub(crate) fn apply(
        &self,
        wish: &Wish,
        status: StatusCode,
        headers: &mut HeaderMap,
        length: Option<u64>,
        room: &Room,
    ) -> Option<(Encoder, Place)> {
        if status == StatusCode::NOT_MODIFIED {
            weaken_known_tag(wish, headers);
            return None;
        }
        if !self.is_worth_it(status, headers, length) {
            return None;
        }
        vary(headers);
        let coding = wish.coding?;
        let place = room.take()?;
        let encoder = Encoder::new(coding).ok()?;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        if let Some(weak) = headers.get(ETAG).and_then(weakened) {
            headers.insert(ETAG, weak);
        }
        Some((encoder, place))
    }

    fn is_worth_it(&self, status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> bool {
        const OF_THE_CONTENT: [HeaderName; 4] = [
            HeaderName::from_static("content-digest"),
            HeaderName::from_static("repr-digest"),
            HeaderName::from_static("digest"),
            HeaderName::from_static("content-md5"),
        ];
        let has_body = !matches!(status.as_u16(), 100..200 | 204 | 205 | 206 | 304);
        has_body
            && !headers.contains_key(CONTENT_ENCODING)
            && !has_no_transform(headers)
            && !OF_THE_CONTENT.iter().any(|name| headers.contains_key(name))
            && length.is_none_or(|length| length >= self.min_size as u64)
            && headers.get(CONTENT_TYPE).is_some_and(is_compressible)
    }
}

/// Types that are text in some way. Images, archives and films are compressed already.
fn is_compressible(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            &*kind,
            "application/json"
                | "application/x-ndjson"
                | "application/javascript"
                | "application/x-javascript"
                | "application/xml"
                | "application/wasm"
                | "application/vnd.ms-fontobject"
                | "font/ttf"
                | "font/otf"
                | "image/bmp"
                | "image/x-icon"
        )
}

fn has_no_transform(headers: &HeaderMap) -> bool {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

fn vary(headers: &mut HeaderMap) {
    let values = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let named = values.flat_map(|value| value.split(',')).map(str::trim);
    if !named.into_iter().any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        headers.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    }
}

/// The compressed response is not byte for byte the other one.
fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    if tag.as_bytes().starts_with(b"W/") {
        return None;
    }
    HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()
}

/// A client that asks about the tag of a compressed response is told about that one.
fn weaken_known_tag(wish: &Wish, headers: &mut HeaderMap) {
    let Some(weak) = headers.get(ETAG).and_then(weakened) else { return };
    let asked = wish.if_none_match.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
    if asked.windows(weak.len()).any(|part| part == weak.as_bytes()) {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Compression {
        Compression { codings: vec![Coding::Brotli, Coding::Gzip], min_size: 100 }
    }

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// The response's fields afterwards, and whether it is compressed.
    fn applied(
        request: &[(&'static str, &str)],
        status: u16,
        response: &[(&'static str, &str)],
        length: Option<u64>,
    ) -> (HeaderMap, bool) {
        let (site, mut headers) = (site(), map(response));
        let wish = site.wish(&map(request)).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let how = site.apply(&wish, status, &mut headers, length, &Room::default());
        (headers, how.is_some())
    }

    const WANTS: &[(&str, &str)] = &[("accept-encoding", "gzip")];

    #[test]
    fn the_fields_are_those_of_the_compressed_response() {
        let response = [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", "500"),
            ("etag", "\"x\""),
            ("accept-ranges", "bytes"),
            ("vary", "Cookie"),
        ];
        let (headers, compressed) = applied(WANTS, 200, &response, Some(500));
        assert!(compressed);
        assert_eq!(
            (&headers["content-encoding"], &headers["etag"]),
            (&HeaderValue::from_static("gzip"), &HeaderValue::from_static("W/\"x\""))
        );
        assert!(!headers.contains_key("content-length") && !headers.contains_key("accept-ranges"));
        assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), ["Cookie", "accept-encoding"]);

        let (headers, compressed) = applied(&[], 200, &response, Some(500));
        assert!(!compressed && headers["content-length"] == "500" && headers["etag"] == "\"x\"");
        assert_eq!(headers.get_all("vary").iter().count(), 2, "caches must know");
    }

    #[test]
    fn what_must_not_be_compressed_is_left_alone() {
        let html = ("content-type", "text/html");
        for (what, status, response, length) in [
            ("short", 200, &[html][..], Some(99)),
            ("an image", 200, &[("content-type", "image/png")], None),
            ("gRPC", 200, &[("content-type", "application/grpc+proto")], None),
            ("no type", 200, &[], None),
            ("a part", 206, &[html, ("content-range", "bytes 0-499/500")], Some(500)),
            ("nothing", 204, &[html], None),
            ("a switch", 101, &[html], None),
            ("compressed already", 200, &[html, ("content-encoding", "br")], None),
            ("no-transform", 200, &[html, ("cache-control", "public, No-Transform")], None),
            ("a digest", 200, &[html, ("repr-digest", "sha-256=:x:")], None),
        ] {
            let (headers, compressed) = applied(WANTS, status, response, length);
            assert!(!compressed, "{what}");
            assert_eq!(headers, map(response), "{what}");
        }
        let request = [("accept-encoding", "gzip"), ("cache-control", "no-transform")];
        assert!(!applied(&request, 200, &[html], None).1);
        assert!(Compression::default().wish(&map(WANTS)).is_none());
    }

    #[test]
    fn a_304_is_about_the_response_that_the_client_has() {
        let response = [("etag", "\"x\"")];
        let asks = |tag| [("accept-encoding", "gzip"), ("if-none-match", tag)];
        assert_eq!(applied(&asks("W/\"x\""), 304, &response, None).0["etag"], "W/\"x\"");
        assert_eq!(applied(&asks("\"x\""), 304, &response, None).0["etag"], "\"x\"");
    }

    #[test]
    fn there_is_room_for_so_many_at_once() {
        let (site, room) = (site(), Room::default());
        let wish = site.wish(&map(WANTS)).unwrap();
        let one =
            || site.apply(&wish, StatusCode::OK, &mut map(&[("content-type", "text/html")]), None, &room);
        let mut places: Vec<_> = (0..AT_ONCE).map(|_| one().unwrap().1).collect();
        assert!(one().is_none());
        places.pop();
        assert!(one().is_some());
    }
}
