//! Behind a load balancer that says whose connections it passes on.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hsm_proxy::{Config, LogSettings};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::access_log::lines;
use crate::support::{Client, Running, Signing, config, get};

const A: &str = "a.example";

/// A v2 header that says nothing: a health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn behind_a_load_balancer() -> Config {
    let mut config = config(&[&[A]]);
    config.proxy.accept_proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
    config
}

fn of(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 4711 443\r\n").into_bytes()
}

/// A connection that begins with these bytes.
fn beginning_with(to: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(first).unwrap();
    stream
}

fn is_closed(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn the_client_is_who_the_header_says() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let mut config = behind_a_load_balancer();
    config.limits.connections_per_ip = 1;
    config.log = LogSettings { access: Some(log.clone()), ..LogSettings::default() };
    let proxy = Running::start(config, Signing::AtOnce);
    let client = Client::new(&proxy);
    let connect = |header: &[u8]| client.connect_over(beginning_with(proxy.address(), header), A);
    let mut first = connect(&of("192.0.2.1")).unwrap();
    assert!(is_closed(beginning_with(proxy.address(), &of("192.0.2.1"))), "it has one already");
    let _second = connect(&of("192.0.2.2")).unwrap();
    let _the_load_balancer = connect(LOCAL).unwrap();
    assert!(is_closed(beginning_with(proxy.address(), b"PROXY UNKNOWN\r\n")), "the same address");
    proxy.wait_for_metric("hsm_proxy_refused_connections_total{reason=\"connections-per-ip\"} 2\n");
    assert!(get(&mut first, A).starts_with("HTTP/1.1 200"));
    let lines = lines(&log, 1);
    assert!(lines[0].contains("\"192.0.2.1\""), "{lines:?}");
}

#[test]
fn a_connection_without_a_header_is_closed() {
    let mut config = behind_a_load_balancer();
    config.timeouts.handshake = Duration::from_millis(300);
    config.proxy.redirect_listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let mut proxy = Running::start(config, Signing::AtOnce);
    let plain = proxy.plain.unwrap();
    assert!(Client::new(&proxy).connect(A).is_err(), "TLS at once");
    assert!(is_closed(beginning_with(plain, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")));
    assert!(is_closed(beginning_with(proxy.address(), b"PROXY TCP4 nobody nowhere 1 2\r\n")));
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"proxy-header\"} 3\n");
    assert!(is_closed(beginning_with(proxy.address(), b"PROXY TCP4 192.")), "and no more");
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"timed-out\"} 1\n");

    let asking = [&of("192.0.2.1")[..], b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"];
    let mut response = String::new();
    beginning_with(plain, &asking.concat()).read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 301"), "{response}");

    let mut config = proxy.config();
    config.proxy.accept_proxy_protocol_from = vec!["192.0.2.0/24".parse().unwrap()];
    proxy.reload(&config).unwrap();
    Client::new(&proxy).connect(A).unwrap();
    assert!(Client::new(&proxy).connect_over(beginning_with(proxy.address(), &of("192.0.2.1")), A).is_err());
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"tls-error\"} 1\n");
    proxy.stop();
}

#[test]
fn connections_that_wait_for_headers_are_bounded() {
    const MOST: usize = 1024;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut config = behind_a_load_balancer();
    config.proxy.workers = 1;
    let proxy = Running::start(config, Signing::AtOnce);
    let waiting: Vec<_> = (0..MOST).map(|_| TcpStream::connect(proxy.address()).unwrap()).collect();
    assert!(is_closed(beginning_with(proxy.address(), b"")));
    proxy.wait_for_metric("hsm_proxy_refused_connections_total{reason=\"proxy-headers\"} 1\n");
    drop(waiting);
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    let stream = beginning_with(proxy.address(), &of("192.0.2.1"));
    Client::new(&proxy).connect_over(stream, A).unwrap();
}
