//! What is told of a piece of work.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::context::{SpanId, TraceId};

/// Longest text of an attribute, in bytes; clients choose some of them.
const LONGEST: usize = 1024;

/// A piece of work that has ended.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) state: Option<String>,
    pub(super) kind: SpanKind,
    pub(super) name: Cow<'static, str>,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Attributes,
    /// Whether it failed, by the conventions of its kind.
    pub(super) failed: bool,
    /// The span of the handshake that it came over.
    pub(super) link: Option<SpanRef>,
}

/// Whom the work was for; as OTLP numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpanKind {
    Server = 2,
    Client = 3,
}

/// A span of any trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanRef {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// Names (OpenTelemetry's semantic conventions, where they have one) and values.
#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<(&'static str, Value)>);

impl Attributes {
    /// Bytes that are not UTF-8 become U+FFFD.
    pub(super) fn text(&mut self, name: &'static str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let mut text = String::from_utf8_lossy(&value[..value.len().min(LONGEST)]).into_owned();
        // What was mended has become longer.
        text.truncate(text.floor_char_boundary(LONGEST));
        text.shrink_to_fit();
        self.0.push((name, Value::Text(text)));
    }

    /// The same for what there may not be.
    pub(super) fn maybe(&mut self, name: &'static str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value.filter(|value| !value.as_ref().is_empty()) {
            self.text(name, value);
        }
    }

    pub(super) fn number(&mut self, name: &'static str, value: impl TryInto<i64>) {
        self.0.push((name, Value::Number(value.try_into().unwrap_or(i64::MAX))));
    }

    pub(super) fn flag(&mut self, name: &'static str, value: bool) {
        self.0.push((name, Value::Flag(value)));
    }
}

/// When something began, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    wall: u64,
    at: Instant,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self::since(Instant::now())
    }

    /// The same for a moment that has passed.
    pub(crate) fn since(at: Instant) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: nanos(now.saturating_sub(at.elapsed())), at }
    }

    /// When it was, in nanoseconds since 1970.
    pub(super) fn wall(self) -> u64 {
        self.wall
    }

    /// When a later moment was. A clock that is set meanwhile makes nothing longer or shorter.
    pub(super) fn wall_at(self, later: Instant) -> u64 {
        self.wall.saturating_add(nanos(later.saturating_duration_since(self.at)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
