//! Reads OTLP's protobuf (`opentelemetry/proto/trace/v1/trace.proto`), field by field.

/// A span as it is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span {
    pub(crate) trace_id: Vec<u8>,
    pub(crate) span_id: Vec<u8>,
    pub(crate) trace_state: String,
    pub(crate) parent_span_id: Vec<u8>,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) start_time_unix_nano: u64,
    pub(crate) end_time_unix_nano: u64,
    pub(crate) attributes: Vec<(String, String)>,
    /// Trace and span of each.
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) status_code: u64,
    pub(crate) flags: u64,
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(&self) -> u64 {
        let Self::Number(number) = self else { panic!("no number") };
        *number
    }

    fn bytes(&self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("no bytes") };
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("a string is UTF-8")
    }
}

/// The fields of a message, with their numbers.
fn fields(mut message: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut message)),
            1 => Value::Number(u64::from_le_bytes(take(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message);
                Value::Bytes(take(&mut message, length.try_into().unwrap()))
            }
            5 => Value::Number(u32::from_le_bytes(take(&mut message, 4).try_into().unwrap()).into()),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for at in 0..10 {
        let [byte] = *take(message, 1) else { unreachable!() };
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return number;
        }
    }
    panic!("a number without end");
}

fn take<'a>(message: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = message.split_at_checked(count).expect("it ends too early");
    *message = rest;
    taken
}

/// An `ExportTraceServiceRequest`: what is said of the service, and the spans.
pub(crate) fn request(body: &[u8]) -> (Vec<(String, String)>, Vec<Span>) {
    let (mut resource, mut spans) = (Vec::new(), Vec::new());
    for (number, resource_spans) in fields(body) {
        assert_eq!(number, 1, "resource_spans");
        for (number, part) in fields(resource_spans.bytes()) {
            match number {
                1 => {
                    resource = fields(part.bytes()).iter().map(|(_, pair)| attribute(pair.bytes())).collect();
                }
                2 => spans.extend(
                    fields(part.bytes())
                        .iter()
                        .filter(|(number, _)| *number == 2)
                        .map(|(_, span)| self::span(span.bytes())),
                ),
                other => panic!("field {other} of ResourceSpans"),
            }
        }
    }
    (resource, spans)
}

fn span(message: &[u8]) -> Span {
    let mut span = Span::default();
    for (number, value) in fields(message) {
        match number {
            1 => span.trace_id = value.bytes().to_vec(),
            2 => span.span_id = value.bytes().to_vec(),
            3 => span.trace_state = value.text(),
            4 => span.parent_span_id = value.bytes().to_vec(),
            5 => span.name = value.text(),
            6 => span.kind = value.number(),
            7 => span.start_time_unix_nano = value.number(),
            8 => span.end_time_unix_nano = value.number(),
            9 => span.attributes.push(attribute(value.bytes())),
            13 => {
                let fields = fields(value.bytes());
                let [(1, trace), (2, id)] = &fields[..] else { panic!("a link") };
                span.links.push((trace.bytes().to_vec(), id.bytes().to_vec()));
            }
            15 => {
                let code = fields(value.bytes()).into_iter().find(|(number, _)| *number == 3);
                span.status_code = code.map_or(0, |(_, code)| code.number());
            }
            16 => span.flags = value.number(),
            other => panic!("field {other} of Span"),
        }
    }
    assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8), "{span:?}");
    span
}

/// A `KeyValue`, whatever its type.
fn attribute(message: &[u8]) -> (String, String) {
    let fields = fields(message);
    let [(1, key), (2, value)] = &fields[..] else { panic!("a KeyValue") };
    let value = self::fields(value.bytes());
    let [(number, value)] = &value[..] else { panic!("an AnyValue") };
    let value = match number {
        1 => value.text(),
        2 => (value.number() != 0).to_string(),
        3 => value.number().cast_signed().to_string(),
        other => panic!("field {other} of AnyValue"),
    };
    (key.text(), value)
}
