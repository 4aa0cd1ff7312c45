//! The signing budget: a flood of full handshakes at one site.

use std::io::Read;
use std::time::Duration;

use rustls::HandshakeKind;

use crate::support::{Client, Running, Signing, config, get};

/// One worker, and a key that does not sign: two places for its site, room for three to wait, one place for others.
fn flooded() -> Running {
    let mut config = config(&[&["slow.example", "also-slow.example"], &["a.example"]]);
    config.proxy.workers = 1;
    config.limits.signatures = 3;
    config.limits.signatures_per_site = 2;
    config.limits.signature_queue = 3;
    config.timeouts.handshake = Duration::from_secs(60);
    Running::start(config, Signing::WhenReleased { site: "slow.example" })
}

#[test]
fn a_flood_at_one_site_is_bounded_and_another_site_does_not_notice() {
    let proxy = flooded();
    let waiting: Vec<_> = (0..5).map(|_| proxy.connect_in_background("slow.example")).collect();
    proxy.wait_for_signatures(2);
    proxy.wait_for_metric("hsm_proxy_signing_queue 3\n");

    for _ in 0..20 {
        // An alert in the clear is the first word: there was no key exchange.
        let answer = Client::new(&proxy).hello_and_listen("also-slow.example");
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 80]);
        let mut connection = Client::new(&proxy).connect("a.example").unwrap();
        assert!(get(&mut connection, "a.example").starts_with("HTTP/1.1 200"));
    }
    let metrics = proxy.metrics();
    for line in [
        "hsm_proxy_refused_handshakes_total{site=\"slow.example\"} 20\n",
        "hsm_proxy_handshakes_total{result=\"signing-budget\"} 20\n",
        "hsm_proxy_signing_queue 3\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    assert_eq!(proxy.signatures(), 2 + 20, "nobody was signed for who had no place");

    proxy.release();
    for client in waiting {
        client.join().unwrap().unwrap();
    }
    proxy.wait_for_metric("hsm_proxy_signing_queue 0\n");
    Client::new(&proxy).connect("slow.example").unwrap();
}

#[test]
fn who_has_a_ticket_does_not_wait() {
    let mut config = config(&[&["slow.example"], &["a.example"], &["b.example"]]);
    config.proxy.workers = 1;
    config.limits.signatures = 1;
    config.limits.signatures_per_site = 1;
    config.limits.signature_queue = 1;
    config.timeouts.handshake = Duration::from_secs(60);
    let proxy = Running::start(config, Signing::WhenReleased { site: "slow.example" });
    let clients: Vec<_> = [&rustls::version::TLS13, &rustls::version::TLS12]
        .map(|version| {
            let client = Client::new(&proxy).versions(&[version]);
            let mut connection = client.connect("a.example").unwrap();
            get(&mut connection, "a.example"); // brings the ticket
            client
        })
        .into();
    // Now the only place is taken, and somebody waits for it at both sites.
    let slow = proxy.connect_in_background("slow.example");
    proxy.wait_for_signatures(3);
    let waiting = ["slow.example", "a.example"].map(|name| proxy.connect_in_background(name));
    proxy.wait_for_metric("hsm_proxy_signing_queue 2\n");
    for client in clients {
        let connection = client.connect("a.example").unwrap();
        assert_eq!(connection.tls().handshake_kind(), Some(HandshakeKind::Resumed));
    }
    assert_eq!(proxy.signatures(), 3);
    proxy.release();
    slow.join().unwrap().unwrap();
    for client in waiting {
        client.join().unwrap().unwrap();
    }
}

#[test]
fn a_client_that_must_choose_another_group_holds_no_place_meanwhile() {
    let mut config = config(&[&["a.example"]]);
    config.proxy.workers = 1;
    config.limits.signatures = 1;
    config.limits.signatures_per_site = 1;
    let proxy = Running::start(config, Signing::AtOnce);
    // The proxy asks for another key share, and this client does not answer.
    let mut stuck = Client::new(&proxy).guessing_a_wrong_group().hello("a.example");
    let mut asked = [0; 1];
    stuck.read_exact(&mut asked).unwrap();
    assert_eq!(asked, [22], "a HelloRetryRequest");
    let mut connection = Client::new(&proxy).connect("a.example").unwrap();
    assert!(get(&mut connection, "a.example").starts_with("HTTP/1.1 200"));
    drop(stuck);
    let mut connection = Client::new(&proxy).guessing_a_wrong_group().connect("a.example").unwrap();
    assert!(get(&mut connection, "a.example").starts_with("HTTP/1.1 200"));
}

/// One worker with one place, and a key that does not sign.
fn with_one_place(queue: usize) -> Running {
    let mut config = config(&[&["slow.example"], &["a.example"], &["b.example"]]);
    config.proxy.workers = 1;
    config.limits.signatures = 1;
    config.limits.signatures_per_site = 1;
    config.limits.signature_queue = queue;
    config.timeouts.handshake = Duration::from_secs(60);
    Running::start(config, Signing::WhenReleased { site: "slow.example" })
}

#[test]
fn a_ticket_of_another_site_leads_past_nobody() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let proxy = with_one_place(5);
        let client = Client::new(&proxy).versions(&[version]).mixing_up_names();
        get(&mut client.connect("a.example").unwrap(), "a.example"); // brings the ticket
        let slow = proxy.connect_in_background("slow.example");
        proxy.wait_for_signatures(2);
        let waiting = std::thread::spawn(move || client.connect("b.example").map(drop));
        proxy.wait_for_metric("hsm_proxy_signing_queue 1\n");
        proxy.release();
        slow.join().unwrap().unwrap();
        waiting.join().unwrap().unwrap();
    }
}

#[test]
fn who_is_refused_after_a_hello_retry_request_is_told_so() {
    let proxy = with_one_place(0);
    let (mut tls, mut stream) =
        Client::new(&proxy).guessing_a_wrong_group().before_its_second_flight("a.example");
    let slow = proxy.connect_in_background("slow.example");
    proxy.wait_for_signatures(1);
    while tls.wants_write() {
        tls.write_tls(&mut stream).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 80]);
    proxy.wait_for_metric("hsm_proxy_refused_handshakes_total{site=\"a.example\"} 1\n");
    proxy.release();
    slow.join().unwrap().unwrap();
}
