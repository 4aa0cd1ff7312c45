//! What a collector of traces is told, and what upstreams are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use hsm_proxy::{Config, Share, TraceSettings, UpstreamSettings};

use super::otlp::{self, Span};
use super::support::{Client, Running, Signing, config, request};

const A: &str = "a.example";
/// As OTLP numbers them.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

const PATIENCE: Duration = Duration::from_secs(20);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A server that gives each request to the test, head and body, and answers as `answer` says; it counts from 0.
struct Server {
    address: SocketAddr,
    asked: Receiver<(String, Vec<u8>)>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(answer: impl Fn(usize) -> &'static str + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (tell, asked)) = (listener.local_addr().unwrap(), mpsc::channel());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept() else { return };
                if stopped.load(Relaxed) {
                    return;
                }
                if let Ok(request) = serve(stream, answer(number))
                    && tell.send(request).is_err()
                {
                    return;
                }
            }
        });
        Self { address, asked, stop }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn next(&self) -> (String, Vec<u8>) {
        self.asked.recv_timeout(PATIENCE).expect("nobody asked")
    }

    /// The head of the next request.
    fn head(&self) -> String {
        self.next().0.to_ascii_lowercase()
    }

    /// Spans until there are `count`.
    fn spans(&self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            spans.extend(spans_of(&self.next().1));
        }
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, answer: &str) -> std::io::Result<(String, Vec<u8>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&buffer[..count]);
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let body = &read[end + 4..];
        if body.len() >= length.unwrap_or(0_usize) {
            let body = body.to_vec();
            stream.write_all(answer.as_bytes())?;
            return Ok((head, body));
        }
    }
}

fn spans_of(body: &[u8]) -> Vec<Span> {
    let (resource, spans) = otlp::request(body);
    assert!(resource.contains(&("service.name".to_owned(), "hsm-proxy".to_owned())), "{resource:?}");
    assert!(spans.iter().all(|span| span.flags == 1), "{spans:#?}");
    spans
}

/// An attribute; empty if it is not there.
fn of<'a>(span: &'a Span, name: &str) -> &'a str {
    span.attributes.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:#?}"))
}

fn has_failed(span: &Span) -> bool {
    span.status_code == ERROR
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tracing_to(collector: &Server, sample: f64) -> TraceSettings {
    let endpoint = Some(collector.url().parse().unwrap());
    TraceSettings { endpoint, sample: Share::new(sample).unwrap(), ..TraceSettings::default() }
}

/// A proxy with the site in front of these servers.
fn proxy_of(servers: &[String], traces: TraceSettings) -> Running {
    let mut config = Config { traces, ..config(&[&[A]]) };
    let servers = servers.iter().map(|url| url.parse().unwrap()).collect();
    config.upstreams = vec![UpstreamSettings::new("web".parse().unwrap(), servers)];
    config.sites[0].to = "web".parse().unwrap();
    Running::start(config, Signing::AtOnce)
}

fn ask(proxy: &Running, target: &str, more: &str) -> String {
    let mut connection = Client::new(proxy).connect(A).unwrap();
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: {A}\r\nUser-Agent: a test\r\n{more}Connection: close\r\n\r\n"
    );
    request(&mut connection, &head)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_request_is_told_with_its_upstream_and_a_handshake_with_its_signature() {
    let (collector, upstream) = (Server::start(|_| OK), Server::start(|_| OK));
    let proxy = proxy_of(&[upstream.url()], tracing_to(&collector, 1.0));
    assert!(ask(&proxy, "/page?token=hush", "").starts_with("HTTP/1.1 200"));
    let head = upstream.head();
    let spans = collector.spans(4);
    let (served, asked) = (named(&spans, "GET"), named(&spans, "upstream"));
    assert_eq!((served.kind, asked.kind), (SERVER, CLIENT));
    assert_eq!((&served.trace_id, &served.span_id), (&asked.trace_id, &asked.parent_span_id));
    assert!(served.parent_span_id.is_empty() && !has_failed(served) && !has_failed(asked));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/page"),
        ("url.query", ""),
        ("url.scheme", "https"),
        ("server.address", A),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "a test"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(of(served, name), value, "{name}");
    }
    assert_eq!(of(asked, "url.full"), format!("{}/page", upstream.url()));
    assert_eq!((of(asked, "server.address"), of(asked, "http.request.method")), ("127.0.0.1", "GET"));
    assert_eq!(of(asked, "http.response.status_code"), "200");
    let told = format!("00-{}-{}-01", hex(&asked.trace_id), hex(&asked.span_id));
    assert_eq!(field(&head, "traceparent"), Some(&*told));
    assert!(served.start_time_unix_nano <= asked.start_time_unix_nano);
    assert!(asked.end_time_unix_nano <= served.end_time_unix_nano);

    let (handshake, sign) = (named(&spans, "TLS handshake"), named(&spans, "sign"));
    assert_eq!((&handshake.trace_id, &handshake.span_id), (&sign.trace_id, &sign.parent_span_id));
    assert_ne!(handshake.trace_id, served.trace_id);
    assert_eq!(served.links, [(handshake.trace_id.clone(), handshake.span_id.clone())]);
    assert_eq!((of(handshake, "tls.protocol.version"), of(handshake, "tls.resumed")), ("1.3", "false"));
    assert!(handshake.start_time_unix_nano <= sign.start_time_unix_nano);
    assert!(sign.end_time_unix_nano <= handshake.end_time_unix_nano);
    assert!(handshake.end_time_unix_nano <= served.start_time_unix_nano);
    proxy.wait_for_metric("hsm_proxy_spans_total{result=\"exported\"} 4\n");

    // A handshake that fails.
    assert!(Client::new(&proxy).connect("unknown.example").is_err());
    let spans = collector.spans(1);
    assert!(has_failed(&spans[0]), "{spans:#?}");
    assert_eq!(of(&spans[0], "error.type"), "unknown-site");
}

#[test]
fn a_clients_trace_is_continued_if_it_is_trusted_and_else_ends_here() {
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let client = |flags: &str| format!("traceparent: 00-{trace}-{span}-{flags}\r\ntracestate: a=1\r\n");
    let (collector, upstream) = (Server::start(|_| OK), Server::start(|_| OK));
    let untrusting = tracing_to(&collector, 0.0);
    let proxy = proxy_of(&[upstream.url()], untrusting.clone());
    ask(&proxy, "/", &client("01"));
    let head = upstream.head();
    let told = field(&head, "traceparent").unwrap();
    assert!(told.ends_with("-00") && !told.contains(trace), "{told}");
    assert_eq!(field(&head, "tracestate"), None);

    let mut config = proxy.config();
    config.traces = TraceSettings { trust_clients: true, ..untrusting };
    proxy.reload(&config).unwrap();
    ask(&proxy, "/", &client("00"));
    let head = upstream.head();
    assert!(field(&head, "traceparent").unwrap().starts_with(&format!("00-{trace}-")), "{head}");
    assert!(field(&head, "traceparent").unwrap().ends_with("-00"), "{head}");
    // The handshake is not the client's to choose.
    ask(&proxy, "/", &client("01"));
    let head = upstream.head();
    assert_eq!(field(&head, "tracestate"), Some("a=1"));
    let spans = collector.spans(2);
    let (served, asked) = (named(&spans, "GET"), named(&spans, "upstream"));
    assert_eq!((hex(&served.trace_id), hex(&served.parent_span_id)), (trace.to_owned(), span.to_owned()));
    assert_eq!(field(&head, "traceparent").unwrap(), format!("00-{trace}-{}-01", hex(&asked.span_id)));
    assert_eq!(served.trace_state, "a=1");
    assert!(served.links.is_empty());

    // Without traces it is the client's and the upstream's affair.
    config.traces = TraceSettings::default();
    proxy.reload(&config).unwrap();
    ask(&proxy, "/", &client("01"));
    let head = upstream.head();
    assert_eq!(field(&head, "traceparent").unwrap(), format!("00-{trace}-{span}-01"));
    assert!(collector.asked.try_recv().is_err());
}

#[test]
fn each_server_that_is_asked_has_a_span() {
    let (collector, upstream) = (Server::start(|_| OK), Server::start(|_| OK));
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let proxy = proxy_of(&[format!("http://{gone}"), upstream.url()], tracing_to(&collector, 1.0));
    // Whichever is asked first.
    let mut retried = None;
    for _ in 0..4 {
        assert!(ask(&proxy, "/", "").starts_with("HTTP/1.1 200"));
        let head = upstream.head();
        let mut spans = Vec::new();
        while !spans.iter().any(|span: &Span| span.name == "GET") {
            spans.extend(spans_of(&collector.next().1));
        }
        let asked: Vec<_> = spans.into_iter().filter(|span| span.name == "upstream").collect();
        let last = asked.iter().find(|span| !has_failed(span)).unwrap();
        assert!(field(&head, "traceparent").unwrap().contains(&hex(&last.span_id)), "{head}");
        if asked.len() == 2 {
            retried = Some(asked);
            break;
        }
    }
    let asked = retried.expect("the server that is gone was never asked");
    let [failed, answered] =
        [true, false].map(|failed| asked.iter().find(|span| has_failed(span) == failed).unwrap());
    assert_eq!(of(failed, "error.type"), "502");
    assert!(of(failed, "hsm_proxy.reason").contains("could not be reached"), "{failed:#?}");
    assert_eq!(
        (of(failed, "http.request.resend_count"), of(answered, "http.request.resend_count")),
        ("", "1")
    );
    assert_eq!(failed.parent_span_id, answered.parent_span_id);
    assert_ne!(failed.span_id, answered.span_id);
}

/// A server may close a kept connection for no fault of anybody's: what that request took is to be seen all the same.
#[test]
fn a_request_that_goes_out_again_over_another_connection_has_a_span_for_each() {
    let collector = Server::start(|_| OK);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let proxy = proxy_of(&[url], tracing_to(&collector, 1.0));
    let upstream = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answers in [2, 1] {
            let (mut stream, _) = listener.accept().unwrap();
            for number in 0..answers {
                let mut buffer = [0; 4096];
                let length = stream.read(&mut buffer).unwrap();
                requests.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                // The second one on the first connection gets none.
                if number == 0 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                }
            }
        }
        requests
    });
    // On one connection, so that both are the same worker's.
    let mut connection = Client::new(&proxy).connect(A).unwrap();
    let [first, last] =
        ["", "Connection: close\r\n"].map(|field| format!("GET / HTTP/1.1\r\nHost: {A}\r\n{field}\r\n"));
    let answers = request(&mut connection, &(first + &last));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    let requests = upstream.join().unwrap();
    let mut spans = Vec::new();
    while spans.iter().filter(|span: &&Span| span.name == "GET").count() < 2 {
        spans.extend(spans_of(&collector.next().1));
    }
    let asked: Vec<_> = spans.iter().filter(|span| span.name == "upstream").collect();
    assert_eq!(asked.len(), 3);
    for (span, request) in asked.iter().zip(&requests) {
        assert!(field(request, "traceparent").unwrap().contains(&hex(&span.span_id)), "{request}");
    }
    assert_eq!(asked[1].parent_span_id, asked[2].parent_span_id);
    assert!(has_failed(asked[1]) && !has_failed(asked[2]));
    assert_eq!(of(asked[2], "http.request.resend_count"), "1");
}

#[test]
fn a_handshake_that_gets_no_signature_tells_how_long_it_waited_for_one() {
    let collector = Server::start(|_| OK);
    let config = Config { traces: tracing_to(&collector, 1.0), ..config(&[&[A]]) };
    let proxy = Running::start(config, Signing::Never);
    assert!(Client::new(&proxy).connect(A).is_err());
    let spans = collector.spans(2);
    let (handshake, signature) = (named(&spans, "TLS handshake"), named(&spans, "sign"));
    assert!(has_failed(handshake) && has_failed(signature));
    assert_eq!(signature.parent_span_id, handshake.span_id);
}

fn private(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_the_collector_can_take_later_is_sent_again_and_what_it_never_takes_is_not() {
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    const NEVER: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let collector = Server::start(|number| {
        if number < 2 {
            BUSY
        } else if number == 3 {
            NEVER
        } else {
            OK
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let headers = directory.path().join("headers");
    private(&headers, "# for the collector\n\nAuthorization: Bearer hush\n");
    let traces = TraceSettings { headers_file: Some(headers.clone()), ..tracing_to(&collector, 1.0) };
    let config = Config { traces: traces.clone(), ..config(&[&[A]]) };
    let proxy = Running::start(config.clone(), Signing::AtOnce);
    ask(&proxy, "/", "");
    let sent = [collector.next(), collector.next(), collector.next()];
    assert!(sent.iter().all(|(_, body)| *body == sent[0].1), "it is the same each time");
    assert!(sent[0].0.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{}", sent[0].0);
    assert!(sent[0].0.contains("Bearer hush"), "{}", sent[0].0);
    assert_eq!(spans_of(&sent[2].1).len(), 3);
    proxy.wait_for_metric("hsm_proxy_spans_total{result=\"exported\"} 3\n");
    ask(&proxy, "/", "");
    collector.next();
    proxy.wait_for_metric("hsm_proxy_spans_total{result=\"failed\"} 3\n");
    ask(&proxy, "/", "");
    collector.next();
    proxy.wait_for_metric("hsm_proxy_spans_total{result=\"exported\"} 6\n");

    // A reload takes another token, and names a line that is none without showing it.
    private(&headers, "Authorization: Bearer another\n");
    let mut changed = proxy.config();
    changed.traces = traces;
    proxy.reload(&changed).unwrap();
    ask(&proxy, "/", "");
    assert!(collector.next().0.contains("Bearer another"));
    private(&headers, "fine: yes\nhush hush\n");
    let error = proxy.reload(&changed).unwrap_err().to_string();
    assert!(error.starts_with("[traces] headers-file: line 2 of ") && !error.contains("hush"), "{error}");
}
