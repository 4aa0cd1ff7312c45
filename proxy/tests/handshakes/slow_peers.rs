//! Clients that are slow on purpose: each holds a connection as long as its timeout says, and little memory.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::http2::{Raw, get};
use crate::support::{Client, Connection, Running, Signing, config};
use crate::upstream::{Answer, Upstream};

/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all buffers on the way hold: of the upstream's and the client's sockets, and of the proxy.
const BUFFERED: u64 = 32 << 20;

fn start(upstream: &Upstream, change: impl FnOnce(&mut hsm_proxy::Timeouts)) -> Running {
    let mut config = config(&[&["a.example"]]);
    config.sites[0].to = upstream.url().parse().unwrap();
    change(&mut config.timeouts);
    Running::start(config, Signing::AtOnce)
}

fn connect(proxy: &Running) -> Connection {
    Client::new(proxy).connect("a.example").unwrap()
}

/// Sends a byte now and then until the proxy has had enough, and tells what it said.
fn trickle(connection: &mut Connection, begin: &str, byte: &[u8]) -> String {
    let begun = Instant::now();
    connection.stream().sock.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    connection.stream().write_all(begin.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    while begun.elapsed() < PATIENCE {
        match connection.stream().read(&mut buffer) {
            Ok(0) => return String::from_utf8(answer).unwrap(),
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if connection.stream().write_all(byte).is_err() {
                    return String::from_utf8(answer).unwrap();
                }
            }
            Err(_) => return String::from_utf8(answer).unwrap(),
        }
    }
    panic!("it may go on for ever");
}

#[test]
fn a_head_that_trickles_is_given_up() {
    let upstream = Upstream::start(Answer::Never);
    let proxy = start(&upstream, |timeouts| timeouts.header = Duration::from_millis(300));
    let begun = Instant::now();
    let answer = trickle(&mut connect(&proxy), "GET / HTTP/1.1\r\nHost: a.example\r\nX: ", b"x");
    assert_eq!(answer, "");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_body_that_stops_is_answered_with_408() {
    let upstream = Upstream::start(Answer::Never);
    let proxy = start(&upstream, |timeouts| timeouts.stall = Duration::from_millis(300));
    let mut connection = connect(&proxy);
    let request = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhalf";
    let answer = crate::support::request(&mut connection, request);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
}

#[test]
fn an_upstream_that_is_silent_is_answered_for_with_504() {
    let upstream = Upstream::start(Answer::Never);
    let proxy = start(&upstream, |timeouts| timeouts.upstream_response = Duration::from_millis(300));
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let answer = crate::support::request(&mut connect(&proxy), request);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}

/// The proxy itself waits `GRACE`, five seconds, longer than the timeouts that know more.
fn impatient(timeouts: &mut hsm_proxy::Timeouts) {
    timeouts.stall = Duration::from_millis(300);
    timeouts.upstream_response = Duration::from_millis(300);
}

#[test]
fn a_client_that_reads_nothing_is_ended_and_holds_little() {
    let upstream = Upstream::start(Answer::Forever);
    let proxy = start(&upstream, impatient);
    let mut connection = connect(&proxy);
    connection.stream().write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    proxy.wait_for_metric("hsm_proxy_requests_total{site=\"a.example\",status=\"2xx\"} 1\n");
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    assert!(upstream.sent() < BUFFERED, "{} bytes", upstream.sent());
}

#[test]
fn a_client_of_http2_that_reads_nothing_is_ended_and_holds_little() {
    let upstream = Upstream::start(Answer::Forever);
    // By its streams, which stall, or by the proxy's PING, which gets no answer within half of `idle`.
    let proxy = start(&upstream, |timeouts| {
        impatient(timeouts);
        timeouts.idle = Duration::from_secs(1);
    });
    // It says that it has all the room there can be, of the connection and of each stream.
    let mut client = Raw::connect(&proxy, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let window = crate::http2::frame(crate::http2::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    client.send(&window).unwrap();
    client.send(&(0..100).flat_map(|n| get(2 * n + 1)).collect::<Vec<_>>()).unwrap();
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    assert!(upstream.connections() > 0, "its requests were under way");
    assert!(upstream.sent() < 100 * BUFFERED / 4, "{} bytes", upstream.sent());
}
