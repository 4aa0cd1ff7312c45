//! Another configuration while clients are connected, and while they connect.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hsm_proxy::StartError;

use super::support::{Client, Connection, Running, Signing, config, get};

const A: &str = "a.example";
const B: &str = "b.example";

#[test]
fn a_renewed_certificate_is_served_and_open_connections_and_tickets_go_on() {
    let mut proxy = Running::start(config(&[&[A]]), Signing::AtOnce);
    let before = Client::new(&proxy);
    let mut open = before.connect(A).unwrap();
    get(&mut before.connect(A).unwrap(), A); // it has a ticket now

    proxy.renew(A);
    assert_eq!(proxy.reload(&proxy.config()).unwrap(), Vec::<&str>::new());
    let after = Client::new(&proxy).connect(A).unwrap();
    assert_eq!(after.certificate(), proxy.certificate(A), "the new one");
    assert!(get(&mut open, A).contains("full"), "the open connection goes on");
    let signatures = proxy.signatures();
    assert!(get(&mut before.connect(A).unwrap(), A).contains("resumed"));
    assert_eq!(proxy.signatures(), signatures);
    assert!(proxy.metrics().contains("hsm_proxy_reloads_total{result=\"ok\"} 1\n"));
}

#[test]
fn a_certificate_that_is_broken_leaves_the_one_from_before_and_does_not_hold_up_another_site() {
    let mut proxy = Running::start(config(&[&[A], &[B]]), Signing::AtOnce);
    let sites = proxy.config().sites;
    proxy.renew(B);
    std::fs::write(&sites[0].cert.files()[0], "-----BEGIN CERTIFICATE-----\nhalf").unwrap();
    proxy.reload(&proxy.config()).unwrap();
    for host in [A, B] {
        let connection = Client::new(&proxy).connect(host).unwrap();
        assert_eq!(connection.certificate(), proxy.certificate(host), "{host}");
    }
    assert!(proxy.metrics().contains("hsm_proxy_stale_certificates 1\n"), "{}", proxy.metrics());
    proxy.renew(A);
    proxy.reload(&proxy.config()).unwrap();
    assert_eq!(Client::new(&proxy).connect(A).unwrap().certificate(), proxy.certificate(A));
    assert!(proxy.metrics().contains("hsm_proxy_stale_certificates 0\n"), "{}", proxy.metrics());
}

#[test]
fn a_configuration_that_can_not_be_served_changes_nothing() {
    let proxy = Running::start(config(&[&[A], &[B]]), Signing::AtOnce);
    let mut broken = proxy.config();
    broken.sites.remove(0);
    broken.sites.push(config(&[&["new.example"]]).sites.remove(0)); // without a certificate
    assert!(matches!(proxy.reload(&broken), Err(StartError::Chain { site, .. }) if site == "new.example"));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = proxy.config();
    busy.sites.remove(0);
    busy.proxy.listen.push(taken.local_addr().unwrap());
    assert!(matches!(proxy.reload(&busy), Err(StartError::Listen { .. })));

    for host in [A, B] {
        Client::new(&proxy).connect(host).unwrap();
    }
    let metrics = proxy.metrics();
    assert!(metrics.contains("hsm_proxy_reloads_total{result=\"failed\"} 2\n"), "{metrics}");
    assert!(metrics.contains("hsm_proxy_config_behind 1\n"), "{metrics}");
}

#[test]
fn sites_timeouts_and_limits_are_those_of_the_new_configuration() {
    let proxy = Running::start(config(&[&[A], &[B]]), Signing::AtOnce);
    let mut changed = proxy.config();
    changed.sites.remove(1);
    changed.timeouts.handshake = Duration::from_millis(20);
    changed.limits.connections = 1;
    changed.proxy.workers = 7;
    changed.timeouts.sign = Duration::from_secs(1);
    assert_eq!(proxy.reload(&changed).unwrap(), ["proxy.workers", "timeouts.sign"]);

    assert!(Client::new(&proxy).connect(B).is_err(), "no such site any more");
    let _silent = TcpStream::connect(proxy.address()).unwrap();
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"timed-out\"} 1\n");
    let open = Client::new(&proxy).connect(A).unwrap();
    let waiting = proxy.connect_in_background(A);
    proxy.wait_for_metric("hsm_proxy_connections 1\n");
    drop(open);
    waiting.join().unwrap().unwrap();
}

#[test]
fn addresses_come_and_go() {
    let proxy = Running::start(config(&[&[A]]), Signing::AtOnce);
    // Another loopback address, so that nobody else's ephemeral port is meant.
    let second = SocketAddr::from(([127, 0, 0, 53], proxy.address().port()));
    let mut more = proxy.config();
    more.proxy.listen.push(second);
    proxy.reload(&more).unwrap();
    let mut open = Client::new(&proxy).at(second).connect(A).unwrap();
    Client::new(&proxy).connect(A).unwrap();

    proxy.reload(&proxy.config()).unwrap();
    assert!(TcpStream::connect(second).is_err(), "it is still listened on");
    Client::new(&proxy).connect(A).unwrap();
    assert!(get(&mut open, A).contains("200 OK"), "its connection goes on");
    proxy.reload(&more).unwrap();
    Client::new(&proxy).at(second).connect(A).unwrap();
}

#[test]
fn old_configurations_live_as_long_as_their_connections_and_only_so_many() {
    let mut settings = config(&[&[A]]);
    settings.proxy.workers = 1;
    let mut proxy = Running::start(settings, Signing::AtOnce);
    let client = Client::new(&proxy);
    let is_served = |connection: &mut Connection| connection.read_something().is_ok();
    let mut connections = Vec::new();
    for idle in 0..12 {
        let mut connection = client.connect(A).unwrap();
        assert!(is_served(&mut connection));
        connections.push(connection);
        let mut changed = proxy.config();
        changed.timeouts.idle = Duration::from_secs(100 + idle);
        proxy.reload(&changed).unwrap();
    }
    // The current one, and eight with a connection each: four were told to finish.
    proxy.wait_for_metric("hsm_proxy_generations 9\n");
    proxy.wait_for_metric("hsm_proxy_connections 8\n");
    connections.drain(..4);
    for connection in &mut connections {
        assert!(get(connection, A).contains("HTTP/1.1 200"), "younger ones go on");
    }
    proxy.wait_for_metric("hsm_proxy_generations 1\n");
    let _open = client.connect(A).unwrap();
    proxy.reload(&proxy.config()).unwrap();
    proxy.wait_for_metric("hsm_proxy_generations 2\n");
    proxy.stop();
}

#[test]
fn nobody_who_connects_during_reloads_is_turned_away() {
    let mut proxy = Running::start(config(&[&[A], &[B]]), Signing::AtOnce);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Also if this panics: the clients are waited for.
        let _done = Done(&done);
        let clients = [A, B].map(|host| {
            let client = Client::new(&proxy);
            let (done, served) = (&done, &served);
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    let response = get(&mut client.connect(host).unwrap(), host);
                    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
                    served.fetch_add(1, Relaxed);
                }
            })
        });
        for round in 0..50 {
            let mut changed = proxy.config();
            changed.timeouts.idle = Duration::from_secs(60 + round % 2);
            if round % 2 == 1 {
                let second = SocketAddr::from(([127, 0, 0, 53], proxy.address().port()));
                changed.proxy.listen.push(second);
            }
            let enough = served.load(Relaxed) + 4;
            proxy.reload(&changed).unwrap();
            while served.load(Relaxed) < enough && clients.iter().all(|client| !client.is_finished()) {
                std::thread::sleep(Duration::from_millis(1)); // counters can't be awaited
            }
        }
    });
    proxy.stop();
}

#[test]
fn plain_http_is_sent_to_https_on_the_port_that_is_configured_now() {
    let mut settings = config(&[&[A]]);
    settings.proxy.redirect_listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let proxy = Running::start(settings, Signing::AtOnce);
    let location = || {
        let mut stream = TcpStream::connect(proxy.plain.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
            .write_all(format!("GET /x HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
        answer.lines().find_map(|line| line.strip_prefix("location: ").map(str::to_owned)).unwrap()
    };
    assert_eq!(location(), "https://a.example/x");
    let mut other = proxy.config();
    other.proxy.redirect_port = 8443;
    proxy.reload(&other).unwrap();
    assert_eq!(location(), "https://a.example:8443/x");
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
