//! What one client may do: connections, new connections, requests.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Client, Running, Signing, config, get, request};

fn is_closed_at_once(proxy: &Running) -> bool {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    matches!(stream.read(&mut [0; 1]), Ok(0))
}

#[test]
fn a_client_has_so_many_connections_and_no_more() {
    let mut config = config(&[&["a.example"]]);
    config.limits.connections_per_ip = 3;
    let proxy = Running::start(config.clone(), Signing::AtOnce);
    let client = Client::new(&proxy);
    let mut held: Vec<_> = (0..3).map(|_| client.connect("a.example").unwrap()).collect();
    for _ in 0..5 {
        assert!(is_closed_at_once(&proxy));
    }
    proxy.wait_for_metric("hsm_proxy_refused_connections_total{reason=\"connections-per-ip\"} 5\n");
    assert!(get(&mut held[0], "a.example").starts_with("HTTP/1.1 200"), "those it has go on");
    held.clear();
    proxy.wait_for_metric("hsm_proxy_connections 0\n");
    held.push(client.connect("a.example").unwrap());

    config = proxy.config();
    config.limits.exempt = vec!["127.0.0.0/8".parse().unwrap()];
    proxy.reload(&config).unwrap();
    held.extend((0..9).map(|_| client.connect("a.example").unwrap()));
}

#[test]
fn who_connects_too_often_is_turned_away() {
    let mut config = config(&[&["a.example"]]);
    config.limits.new_connections_per_ip = Some("2/h".parse().unwrap());
    let proxy = Running::start(config, Signing::AtOnce);
    for _ in 0..2 {
        Client::new(&proxy).connect("a.example").unwrap();
    }
    assert!(is_closed_at_once(&proxy));
    proxy.wait_for_metric("hsm_proxy_refused_connections_total{reason=\"new-connections-per-ip\"} 1\n");
}

#[test]
fn who_asks_too_often_gets_429_on_any_worker_and_sites_have_a_rate_of_their_own() {
    let mut config = config(&[&["a.example"], &["b.example"]]);
    config.limits.requests_per_ip = Some("5/h".parse().unwrap());
    config.sites[1].max_requests = Some("2/m".parse().unwrap());
    let proxy = Running::start(config, Signing::AtOnce);
    let status = |name: &str| {
        let response = get(&mut Client::new(&proxy).connect(name).unwrap(), name);
        (response[9..12].to_owned(), response.to_lowercase())
    };
    for expected in ["200", "200", "429"] {
        let (status, response) = status("b.example");
        assert_eq!(status, expected);
        let wait = response.split("retry-after: ").nth(1).map(|rest| rest.split('\r').next().unwrap());
        assert_eq!(
            wait.map(|seconds| seconds.parse::<u32>().unwrap() <= 30),
            (status == "429").then_some(true)
        );
    }
    // Each request counts for the client, that of the site that had none left, too.
    for expected in ["200", "200", "429", "429"] {
        assert_eq!(status("a.example").0, expected);
    }
    let pipelined = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(2)
        + "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let responses = request(&mut Client::new(&proxy).connect("a.example").unwrap(), &pipelined);
    assert_eq!(responses.matches("HTTP/1.1 429").count(), 3, "{responses}");
}

#[test]
fn plain_http_is_asked_no_more_often_and_a_reload_gives_no_new_rate() {
    let mut config = config(&[&["a.example"], &["b.example"]]);
    config.limits.requests_per_ip = Some("3/h".parse().unwrap());
    config.sites[0].max_requests = Some("2/h".parse().unwrap());
    config.proxy.redirect_listen = vec![([127, 0, 0, 1], 0).into()];
    let proxy = Running::start(config, Signing::AtOnce);
    let status =
        || get(&mut Client::new(&proxy).connect("a.example").unwrap(), "a.example")[9..12].to_owned();
    assert_eq!([status(), status()], ["200", "200"]);
    let plain = |asks: usize| {
        let mut stream = TcpStream::connect(proxy.plain.unwrap()).unwrap();
        let kept = "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n".repeat(asks - 1);
        let last = "GET / HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, (kept + last).as_bytes()).unwrap();
        let mut responses = String::new();
        stream.read_to_string(&mut responses).unwrap();
        responses
    };
    let responses = plain(3);
    assert_eq!(responses.matches("HTTP/1.1 301").count(), 1, "{responses}");
    assert_eq!(responses.matches("HTTP/1.1 429").count(), 2, "{responses}");

    let mut config = proxy.config();
    config.limits.requests_per_ip = None;
    proxy.reload(&config).unwrap();
    assert_eq!(status(), "429", "the site's rate is spent as before");
    config.sites[0].max_requests = Some("3/h".parse().unwrap());
    proxy.reload(&config).unwrap();
    assert_eq!(status(), "200", "another rate");
}
