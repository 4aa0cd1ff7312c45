//! Spans in OTLP's protobuf (`opentelemetry/proto/trace/v1/trace.proto`, version 1). The wire format is that of
//! protobuf.dev/programming-guides/encoding; of its types, these messages take four.

use super::span::{Attributes, Span, SpanRef, Value};

/// `Span.flags`: the lowest byte is that of `traceparent`.
const SAMPLED: u32 = 1;

/// `Status.code`.
const STATUS_ERROR: u64 = 2;

/// An `ExportTraceServiceRequest` with these spans of the service.
pub(super) fn request(service: &str, spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |resource| {
            let mut about = Attributes::default();
            about.text("service.name", service);
            about.text("service.version", env!("CARGO_PKG_VERSION"));
            about.number("process.pid", std::process::id());
            attributes(resource, 1, &about);
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, b"hsm-proxy");
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for one in spans {
                scope_spans.message(2, |message| span(message, one));
            }
        });
    });
    request.0
}

fn span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace.0);
    message.bytes(2, &span.id.0);
    message.bytes(3, span.state.as_deref().unwrap_or_default().as_bytes());
    message.bytes(4, span.parent.map(|parent| parent.0).as_ref().map_or(&[], |id| &id[..]));
    message.bytes(5, span.name.as_bytes());
    message.number(6, span.kind as u64);
    message.fixed64(7, span.start);
    message.fixed64(8, span.end);
    attributes(message, 9, &span.attributes);
    if let Some(SpanRef { trace, span }) = span.link {
        message.message(13, |link| {
            link.bytes(1, &trace.0);
            link.bytes(2, &span.0);
        });
    }
    if span.failed {
        message.message(15, |status| status.number(3, STATUS_ERROR));
    }
    message.fixed32(16, SAMPLED);
}

fn attributes(message: &mut Message, field: u32, attributes: &Attributes) {
    for (name, value) in &attributes.0 {
        message.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            // A value of its own type is there even if it is zero or empty.
            pair.message(2, |any| match value {
                Value::Text(text) => any.always_bytes(1, text.as_bytes()),
                Value::Flag(flag) => any.always_number(2, u64::from(*flag)),
                Value::Number(number) => any.always_number(3, number.cast_unsigned()),
            });
        });
    }
}

/// A message that is being written. Fields with their type's default are left out, as protobuf does.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn always_number(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.always_number(field, value);
        }
    }

    fn fixed64(&mut self, field: u32, value: u64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn fixed32(&mut self, field: u32, value: u32) {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn always_bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.always_bytes(field, value);
        }
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.always_bytes(field, &inner.0);
    }
}

/// How many spans an `ExportTraceServiceResponse` says are rejected (`partial_success.rejected_spans`); `None` if it says nothing,
/// or is no such message.
pub(super) fn rejected(response: &[u8]) -> Option<u64> {
    let Field::Bytes(partial) = field(response, 1)? else { return None };
    let Field::Number(count) = field(partial, 1)? else { return None };
    Some(count)
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of this number.
fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    loop {
        let key = number(&mut message)?;
        let found = match key & 7 {
            0 => Field::Number(number(&mut message)?),
            2 => {
                let length = usize::try_from(number(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(found);
        }
    }
}

fn number(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_rejects_is_read_and_junk_is_not() {
        for (response, count) in [
            (&[][..], None),
            (&[0x0a, 0], None),
            (&[0x0a, 2, 0x08, 4], Some(4)),
            (&[0x0a, 7, 0x12, 2, b'n', b'o', 0x08, 0x80, 0x01], Some(128)),
            (&[0x0a, 9, 0x08], None),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
            (b"<html>", None),
        ] {
            assert_eq!(rejected(response), count, "{response:?}");
        }
    }
}
