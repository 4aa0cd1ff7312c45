//! A request's place in its trace, as services tell each other (W3C Trace Context, level 1).

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flag of a trace that is told.
const SAMPLED: u8 = 1;

/// Longest `tracestate` that is passed on, in bytes: what every service has to (section 3.3.1.5).
const LONGEST_STATE: usize = 512;

/// A trace's name, not zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(pub(super) [u8; 16]);

/// A span's name within its trace, not zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanId(pub(super) [u8; 8]);

impl TraceId {
    /// The part that is random in all traces (Trace Context, level 2, section 3.2.2.3, wants the last seven bytes to be).
    pub(super) fn random(self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// What another service says of the trace that a request is part of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) sampled: bool,
    /// What vendors add, unread.
    pub(super) state: Option<HeaderValue>,
}

impl Parent {
    /// Reads the two fields; `None` without a valid `traceparent`, and then the trace begins anew (section 4.3).
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let (trace, span, sampled) = parse(field.as_bytes())?;
        Some(Self { trace, span, sampled, state: state_of(headers) })
    }
}

/// `version-trace-span-flags` (section 3.2.2). Of later versions, the beginning is read as this one's.
fn parse(text: &[u8]) -> Option<(TraceId, SpanId, bool)> {
    const LENGTH: usize = 55;
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let [version] = hex(&known[..2])?;
    let ends = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
    let separated = [2, 35, 52].iter().all(|&at| known[at] == b'-');
    if version == 0xff || !ends || !separated {
        return None;
    }
    let (trace, span) = (hex(&known[3..35])?, hex(&known[36..52])?);
    let [flags] = hex(&known[53..])?;
    let valid = trace != [0; 16] && span != [0; 8];
    valid.then_some((TraceId(trace), SpanId(span), flags & SAMPLED != 0))
}

/// Lower-case digits only.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

/// All fields as one list; none if it is too long to be passed on.
fn state_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let fields: Vec<_> = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
    let joined = fields.join(&b","[..]);
    if joined.is_empty() || joined.len() > LONGEST_STATE {
        return None;
    }
    HeaderValue::from_bytes(&joined).ok()
}

/// What the next service is told.
pub(super) fn write(
    headers: &mut HeaderMap,
    trace: TraceId,
    span: SpanId,
    sampled: bool,
    state: Option<&HeaderValue>,
) {
    let text = format!("00-{trace}-{span}-{:02x}", u8::from(sampled) * SAMPLED);
    // Digits and hyphens.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACEPARENT, value);
    }
    match state {
        Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
        None => drop(headers.remove(TRACESTATE)),
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(parents: &[&str], states: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(parents.iter().map(|field| (TRACEPARENT, field.parse().unwrap())));
        headers.extend(states.iter().map(|field| (TRACESTATE, field.parse().unwrap())));
        headers
    }

    #[test]
    fn only_what_the_specification_allows_is_continued() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        let parent = Parent::of(&headers(&[&good], &["a=1", "b=2"])).unwrap();
        assert_eq!((parent.trace.to_string(), parent.span.to_string()), (TRACE.to_owned(), SPAN.to_owned()));
        assert!(parent.sampled);
        assert_eq!(parent.state.unwrap(), "a=1,b=2");
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("01-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01.what"), None),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00_{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-0"), None),
            (format!("00-{TRACE}-{SPAN}-0x"), None),
            (String::new(), None),
        ] {
            let parent = Parent::of(&headers(&[&text], &[]));
            assert_eq!(parent.map(|parent| parent.sampled), sampled, "{text}");
        }
        assert_eq!(Parent::of(&headers(&[&good, &good], &[])), None, "which one?");
        assert_eq!(Parent::of(&headers(&[], &["a=1"])), None);
        let long = format!("a={}", "x".repeat(511));
        assert_eq!(Parent::of(&headers(&[&good], &[&long])).unwrap().state, None);
    }

    #[test]
    fn what_is_told_is_read_as_it_was_meant() {
        let mut fields = headers(&["00-1-2-3", "junk"], &["a=1"]);
        let (trace, span) = (TraceId([7; 16]), SpanId([1, 0, 0, 0, 0, 0, 0, 9]));
        for (sampled, state) in [(true, Some(HeaderValue::from_static("c=3"))), (false, None)] {
            write(&mut fields, trace, span, sampled, state.as_ref());
            assert_eq!(Parent::of(&fields), Some(Parent { trace, span, sampled, state }));
        }
        assert!(!fields.contains_key(TRACESTATE));
    }
}
