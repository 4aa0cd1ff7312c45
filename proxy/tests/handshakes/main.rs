//! The proxy with a key in process that signs when the test lets it: sites, versions, limits, failures, drain.

#![allow(clippy::unwrap_used, reason = "a test")]

mod access_log;
mod budget;
mod certificate_directory;
mod certificates;
mod client_certificates;
mod client_limits;
mod failures;
mod http2;
mod http2_attacks;
mod metrics;
mod otlp;
mod passthrough;
mod policies;
mod proxy_protocol;
mod reloads;
mod slow_peers;
mod status;
mod support;
mod tickets;
mod traces;
mod upstream;

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hsm_proxy::Config;
use rustls::{HandshakeKind, ProtocolVersion};
use support::{Client, Running, Signing, config, get};

#[test]
fn each_name_gets_its_own_certificate() {
    let proxy = Running::start(
        config(&[&["a.example", "b.example"], &["*.b.example"], &["x.b.example"]]),
        Signing::AtOnce,
    );
    for (name, certificate) in [
        ("a.example", "a.example"),
        ("A.EXAMPLE", "a.example"),
        ("b.example", "a.example"),
        ("y.b.example", "*.b.example"),
        ("x.b.example", "x.b.example"),
    ] {
        let connection = Client::new(&proxy).connect(name).unwrap();
        assert_eq!(connection.certificate(), proxy.certificate(certificate), "{name}");
    }
}

#[test]
fn names_of_no_site_are_refused_with_the_right_alert() {
    let proxy = Running::start(config(&[&["a.example", "*.b.example"]]), Signing::AtOnce);
    for name in ["c.example", "x.y.b.example", "example"] {
        let error = Client::new(&proxy).connect(name).err().unwrap().to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    // An IP address sends no SNI.
    let error = Client::new(&proxy).connect("127.0.0.1").err().unwrap().to_string();
    assert!(error.contains("MissingExtension"), "{error}");
    assert_eq!(proxy.signatures(), 0);
}

#[test]
fn both_versions_and_both_protocols_are_spoken() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    for (version, expected, name) in [
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3, "TLSv1.3"),
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2, "TLSv1.2"),
    ] {
        for alpn in ["h2", "http/1.1"] {
            let client = Client::new(&proxy).versions(&[version]).alpn(&[alpn]);
            let connection = client.connect("a.example").unwrap();
            assert_eq!(connection.tls().protocol_version(), Some(expected));
            assert_eq!(connection.tls().alpn_protocol(), Some(alpn.as_bytes()));
        }
        let mut connection = Client::new(&proxy).versions(&[version]).connect("a.example").unwrap();
        assert_eq!(connection.tls().alpn_protocol(), None);
        let response = get(&mut connection, "a.example");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert!(response.ends_with(&format!("full {name}")), "{response}");
    }
    let error = Client::new(&proxy).alpn(&["spdy/1"]).connect("a.example").err().unwrap().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn aes_128_is_taken_unless_the_client_is_better_at_chacha20() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (preference, taken) in
            [("AES_256", "AES_128_GCM"), ("AES_128", "AES_128_GCM"), ("CHACHA20", "CHACHA20")]
        {
            let client = Client::new(&proxy).versions(&[version]).preferring(preference);
            let connection = client.connect("a.example").unwrap();
            let suite = format!("{:?}", connection.tls().negotiated_cipher_suite().unwrap().suite());
            assert!(suite.contains(taken), "{preference} before others: {suite}");
        }
    }
}

#[test]
fn a_second_connection_resumes_on_any_worker_without_a_signature() {
    let mut config = config(&[&["a.example"]]);
    config.proxy.workers = 4;
    let proxy = Running::start(config, Signing::AtOnce);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Client::new(&proxy).versions(&[version]);
        let before = proxy.signatures();
        for at in 0..8 {
            let mut connection = client.connect("a.example").unwrap();
            let response = get(&mut connection, "a.example"); // brings the ticket
            assert_eq!(
                connection.tls().handshake_kind() == Some(HandshakeKind::Resumed),
                at > 0,
                "{response}"
            );
        }
        assert_eq!(proxy.signatures() - before, 1);
    }
}

#[test]
fn no_early_data_is_offered() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    let client = Client::new(&proxy).versions(&[&rustls::version::TLS13]).with_early_data();
    for resumed in [false, true] {
        let mut connection = client.connect("a.example").unwrap();
        get(&mut connection, "a.example"); // brings the ticket
        assert_eq!(connection.tls().handshake_kind() == Some(HandshakeKind::Resumed), resumed);
    }
    assert!(!client.may_send_early_data("a.example"));
}

#[test]
fn one_worker_goes_on_while_signatures_are_awaited() {
    let mut config = config(&[&["slow.example"], &["a.example"]]);
    config.proxy.workers = 1;
    let proxy = Running::start(config, Signing::WhenReleased { site: "slow.example" });
    let slow: Vec<_> = (0..20).map(|_| proxy.connect_in_background("slow.example")).collect();
    proxy.wait_for_signatures(20);
    // Twenty handshakes hang in the middle of `sign`; another site's are made, on the same thread.
    let mut connection = Client::new(&proxy).connect("a.example").unwrap();
    assert!(get(&mut connection, "a.example").starts_with("HTTP/1.1 200"));
    proxy.release();
    for client in slow {
        client.join().unwrap().unwrap();
    }
}

#[test]
fn a_handshake_without_a_signature_times_out_and_leaves_nothing_behind() {
    let mut config = config(&[&["slow.example"], &["a.example"]]);
    config.proxy.workers = 1;
    config.limits.handshakes = 50;
    config.timeouts.handshake = Duration::from_millis(200);
    let proxy = Running::start(config, Signing::WhenReleased { site: "slow.example" });
    for round in 1..=3 {
        let clients: Vec<_> = (0..50).map(|_| proxy.connect_in_background("slow.example")).collect();
        for client in clients {
            assert!(client.join().unwrap().is_err(), "round {round}: nobody signed");
        }
    }
    // All of `limits.handshakes` is free again.
    Client::new(&proxy).connect("a.example").unwrap();
    assert!(
        proxy.metrics().contains("hsm_proxy_handshakes_total{result=\"timed-out\"} 150\n"),
        "{}",
        proxy.metrics()
    );
}

#[test]
fn clients_that_do_not_finish_their_handshakes_hold_up_nobody() {
    let mut config = config(&[&["a.example"]]);
    config.limits.handshakes = 2;
    let proxy = Running::start(config, Signing::AtOnce);
    let silent: Vec<_> = (0..20).map(|_| Client::new(&proxy).hello("a.example")).collect();
    let start = Instant::now();
    Client::new(&proxy).connect("a.example").unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(silent);
}

#[test]
fn clients_that_leave_in_the_middle_of_a_signature_hurt_nobody() {
    let mut config = config(&[&["slow.example"], &["a.example"]]);
    config.proxy.workers = 1;
    let proxy = Running::start(config, Signing::WhenReleased { site: "slow.example" });
    for _ in 0..20 {
        Client::new(&proxy).hello_and_leave("slow.example");
    }
    proxy.wait_for_signatures(20);
    proxy.release();
    Client::new(&proxy).connect("a.example").unwrap();
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"client-gone\"} 20\n");
}

#[test]
fn a_key_that_fails_ends_the_handshake_with_internal_error() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::Never);
    let start = Instant::now();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let error = Client::new(&proxy).versions(&[version]).connect("a.example").err().unwrap().to_string();
        assert!(error.contains("InternalError"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "it fails fast");
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"no-signature\"} 2\n");
}

#[test]
fn the_alert_of_a_key_that_fails_is_all_that_the_client_gets() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::Never);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let answer = Client::new(&proxy).versions(&[version]).hello_and_listen("a.example");
        // After a ServerHello, OpenSSL takes no alert in the clear.
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 80], "a fatal internal_error and nothing else");
    }
}

#[test]
fn clients_that_say_nothing_or_nonsense_are_sent_away() {
    let mut config = config(&[&["a.example"]]);
    config.timeouts.handshake = Duration::from_millis(100);
    let proxy = Running::start(config, Signing::AtOnce);
    let mut silent = TcpStream::connect(proxy.address()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0, "hung up on");
    let mut rude = TcpStream::connect(proxy.address()).unwrap();
    std::io::Write::write_all(&mut rude, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // It may be reset, for it wrote more than was read.
    let _ = rude.read_to_end(&mut answer);
    assert_eq!(answer.first().copied().unwrap_or(21), 21, "an alert, or nothing");
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"timed-out\"} 1\n");
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"tls-error\"} 1\n");
}

#[test]
fn the_limit_of_connections_makes_others_wait() {
    let mut config = config(&[&["a.example"]]);
    config.limits.connections = 2;
    config.proxy.workers = 1;
    let proxy = Running::start(config, Signing::AtOnce);
    let first = Client::new(&proxy).connect("a.example").unwrap();
    let _second = Client::new(&proxy).connect("a.example").unwrap();
    let third = proxy.connect_in_background("a.example");
    proxy.wait_for_metric("hsm_proxy_connections 2\n");
    assert!(!third.is_finished());
    drop(first);
    third.join().unwrap().unwrap();
}

#[test]
fn the_drain_waits_for_nobody_longer_than_it_may() {
    let mut config = config(&[&["slow.example"], &["a.example"]]);
    config.timeouts.drain = Duration::from_millis(300);
    let mut proxy = Running::start(config, Signing::WhenReleased { site: "slow.example" });
    let stuck = proxy.connect_in_background("slow.example");
    proxy.wait_for_signatures(1);
    let start = Instant::now();
    proxy.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(stuck.join().unwrap().is_err());
    assert!(TcpStream::connect(proxy.address()).is_err(), "nobody listens any more");
}

#[test]
fn clients_that_the_kernel_has_accepted_are_served_before_the_drain_ends() {
    let mut config = config(&[&["slow.example"], &["a.example"]]);
    config.proxy.workers = 1;
    let mut proxy = Running::start(config, Signing::HoldingTheThread { site: "slow.example" });
    let slow = proxy.connect_in_background("slow.example");
    proxy.wait_for_signatures(1);
    // Nobody accepts these now.
    let queued: Vec<_> = (0..8).map(|_| TcpStream::connect(proxy.address()).unwrap()).collect();
    proxy.request_stop();
    proxy.release();
    slow.join().unwrap().unwrap();
    for stream in queued {
        let mut connection = Client::new(&proxy).connect_over(stream, "a.example").unwrap();
        assert!(get(&mut connection, "a.example").starts_with("HTTP/1.1 200"));
    }
    proxy.stop();
}

#[test]
fn an_idle_proxy_stops_at_once() {
    let mut proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    let start = Instant::now();
    proxy.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn readiness_and_health_are_told() {
    let proxy = Running::start(config(&[&["a.example"]]), Signing::AtOnce);
    assert!(proxy.admin("/healthz").starts_with("HTTP/1.1 200"));
    let ready = proxy.admin("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"ready\":true"), "{ready}");
    assert!(proxy.admin("/nothing").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_port_that_is_taken_and_a_missing_certificate_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wanting = config(&[&["a.example"]]);
    wanting.proxy.listen = vec![taken.local_addr().unwrap()];
    let error = Running::try_start(wanting, Signing::AtOnce).err().unwrap();
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    assert!(!error.is_configuration());

    let text = "[[site]]\nhost = \"a.example\"\ncert = \"/nonexistent.pem\"\nto = \"http://127.0.0.1:1\"";
    let error = Running::bind_only(Config::parse(text).unwrap()).err().unwrap();
    assert!(error.to_string().contains("/nonexistent.pem"), "{error}");
    assert!(error.is_configuration());
}
