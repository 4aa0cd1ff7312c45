//! Connections that are passed on to the server that their clients ask for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use hsm_proxy::{Config, LogSettings, PassthroughSettings, ProxyProtocol};

use crate::access_log::lines;
use crate::http2::{END_HEADERS, END_STREAM, HEADERS, Raw, frame, head};
use crate::support::{Client, Running, Signing, config, get};

const LEGACY: &str = "legacy.example";

fn passing_to(to: SocketAddr, proxy_protocol: Option<ProxyProtocol>) -> Config {
    let host = [LEGACY, "*.db.example"].map(|host| host.parse().unwrap()).to_vec();
    let mut config = config(&[&["a.example"], &["own.db.example"]]);
    config.proxy.workers = 1;
    config.passthroughs =
        vec![PassthroughSettings { host, to: format!("tcp://{to}").parse().unwrap(), proxy_protocol }];
    config
}

fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn the_server_behind_makes_the_handshake_and_is_told_who_the_client_is() {
    let directory = tempfile::tempdir().unwrap();
    let [front_log, behind_log] = ["front", "behind"].map(|name| directory.path().join(name));
    let logging =
        |to: &std::path::Path| LogSettings { access: Some(to.to_owned()), ..LogSettings::default() };
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];

    let mut behind = config(&[&[LEGACY], &["x.db.example"]]);
    behind.proxy.accept_proxy_protocol_from.clone_from(&trusted);
    behind.log = logging(&behind_log);
    let behind = Running::start(behind, Signing::AtOnce);
    let mut front = passing_to(behind.address(), Some(ProxyProtocol::V2));
    front.proxy.accept_proxy_protocol_from = trusted;
    front.log = logging(&front_log);
    let front = Running::start(front, Signing::AtOnce);

    let stream = || {
        let mut stream = TcpStream::connect(front.address()).unwrap();
        stream.write_all(b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443\r\n").unwrap();
        stream
    };
    for name in [LEGACY, "x.db.example"] {
        // The ClientHello in one record, and in many.
        for client in [Client::new(&behind), Client::new(&behind).in_small_records()] {
            let mut connection = client.connect_over(stream(), name).unwrap();
            assert_eq!(connection.certificate(), behind.certificate(name));
            assert!(get(&mut connection, name).starts_with("HTTP/1.1 200"));
        }
    }
    let own = Client::new(&front).connect_over(stream(), "own.db.example").unwrap();
    assert_eq!(own.certificate(), front.certificate("own.db.example"), "exact goes before wildcard");
    assert_eq!((front.signatures(), behind.signatures()), (1, 4));
    front.wait_for_metric("hsm_proxy_passthrough_connections_total{result=\"ok\"} 4\n");
    assert!(lines(&behind_log, 4).iter().all(|line| line.contains("\"client\":\"192.0.2.9\"")));
    let line = lines(&front_log, 4).remove(0);
    for part in ["\"client\":\"192.0.2.9\"", "\"passthrough\":\"legacy.example\"", "\"result\":\"ok\""] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn who_closes_one_direction_still_gets_the_other() {
    let (listener, address) = listening();
    let proxy = Running::start(passing_to(address, None), Signing::AtOnce);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, [22], "the ClientHello, from its first byte");
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let mut client = Client::new(&proxy).hello(LEGACY);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"bye");
    client.write_all(b"and more").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(server.join().unwrap().ends_with(b"and more"));
    proxy.wait_for_metric("hsm_proxy_passthrough_bytes_total{direction=\"sent\"} 3\n");
}

#[test]
fn a_server_that_is_away_or_silent_holds_nobody() {
    let (listener, address) = listening();
    let mut config = passing_to(address, None);
    config.timeouts.idle = Duration::from_millis(200);
    let proxy = Running::start(config, Signing::AtOnce);
    assert!(Client::new(&proxy).hello_and_listen(LEGACY).is_empty(), "silent");
    proxy.wait_for_metric("hsm_proxy_passthrough_connections_total{result=\"broken\"} 1\n");
    drop(listener);
    assert!(Client::new(&proxy).connect(LEGACY).is_err(), "away");
    proxy.wait_for_metric("hsm_proxy_passthrough_connections_total{result=\"unreachable\"} 1\n");
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
}

/// Browsers use a connection for every name that its certificate has.
#[test]
fn requests_for_a_name_that_is_passed_on_are_served_by_no_site_of_http1_and_http2() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let (_listener, address) = listening();
    let mut config = passing_to(address, None);
    config.sites = crate::support::config(&[&["a.example", "*.sites.example"], &["default.other"]]).sites;
    config.passthroughs[0].host.push("b.sites.example".parse().unwrap());
    config.tls.default_site = Some("default.other".parse().unwrap());
    config.log = LogSettings { access: Some(log.clone()), ..LogSettings::default() };
    let proxy = Running::start(config, Signing::AtOnce);
    for (sni, host, status) in [
        ("c.sites.example", "c.sites.example", "200"),
        ("c.sites.example", "b.sites.example", "421"),
        ("nobodys.other", "nobodys.other", "200"),
        ("nobodys.other", LEGACY, "421"),
        ("nobodys.other", "x.db.example", "421"),
    ] {
        let mut connection = Client::new(&proxy).trusting_anybody().connect(sni).unwrap();
        let response = get(&mut connection, host);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{sni} {host}: {response}");
    }
    let mut client = Raw::connect(&proxy, &[]);
    for (stream, host) in [(1, "a.example"), (3, "b.sites.example"), (5, "c.sites.example")] {
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", host))).unwrap();
        assert!(client.hears(HEADERS));
    }
    let lines = lines(&log, 8);
    for (line, status) in lines[5..].iter().zip(["200", "421", "200"]) {
        assert!(line.contains(&format!("\"status\":{status},")), "{line}");
    }
}

#[test]
fn a_passed_connection_ends_after_its_configuration() {
    let (listener, address) = listening();
    let mut config = passing_to(address, None);
    config.timeouts.drain = Duration::from_millis(100);
    let proxy = Running::start(config, Signing::AtOnce);
    let mut client = Client::new(&proxy).hello(LEGACY);
    let (mut server, _) = listener.accept().unwrap();
    assert_ne!(server.read(&mut [0; 4096]).unwrap(), 0);
    let mut others = Vec::new();
    for idle in 0..9 {
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let mut changed = proxy.config();
        changed.timeouts.idle = Duration::from_secs(100 + idle);
        proxy.reload(&changed).unwrap();
        // Each has a connection, so that each stays.
        others.push(Client::new(&proxy).connect("a.example").unwrap());
    }
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "cut off");
    proxy.wait_for_metric("hsm_proxy_passthrough_connections_total{result=\"broken\"} 1\n");
}
