//! Certificates of clients: required, asked for, revoked; what upstreams are told; tickets between policies.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hsm_proxy::{ClientAuth, Config};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::support::{Client, ClientCa, Running, Signing, config, get};

fn demanding(ca: &ClientCa, auth: ClientAuth, revoked: Vec<PathBuf>) -> Config {
    let mut config = config(&[&["a.example"], &["open.example"]]);
    config.sites[0].client_auth = Some(auth);
    config.sites[0].client_ca = Some(ca.file());
    config.sites[0].client_crl = revoked;
    config
}

#[test]
fn who_is_required_to_have_a_certificate_has_it_or_is_refused() {
    let (ca, other) = (ClientCa::new(), ClientCa::new());
    let proxy = Running::start(demanding(&ca, ClientAuth::Require, Vec::new()), Signing::AtOnce);
    for version in [&TLS13, &TLS12] {
        let client = || Client::new(&proxy).versions(&[version]);
        let mut connection = client().showing(&ca.issue("alice", 1)).connect("a.example").unwrap();
        let response = get(&mut connection, "a.example");
        assert!(response.contains("x-client-cert-subject: CN=alice"), "{response}");
        assert!(response.contains("x-client-cert-verified: SUCCESS"), "{response}");
        for refused in [client(), client().showing(&other.issue("alice", 1))] {
            // In TLS 1.3, the client's handshake is over before the server has seen its certificate.
            let refused = refused.connect("a.example").and_then(|mut connection| connection.read_something());
            // It is told why.
            let Err(error) = refused else { panic!("{version:?}: a certificate is required") };
            assert!(error.to_string().contains("alert"), "{version:?}: {error}");
        }
        // Nobody else is asked.
        let mut connection = client().connect("open.example").unwrap();
        let response = get(&mut connection, "open.example");
        assert!(!response.contains("x-client-cert"), "{response}");
    }
}

#[test]
fn who_is_only_asked_may_have_none() {
    let ca = ClientCa::new();
    let proxy = Running::start(demanding(&ca, ClientAuth::Request, Vec::new()), Signing::AtOnce);
    let response = get(&mut Client::new(&proxy).connect("a.example").unwrap(), "a.example");
    assert!(response.contains("x-client-cert-verified: NONE"), "{response}");
    let mut connection = Client::new(&proxy).showing(&ca.issue("bob", 2)).connect("a.example").unwrap();
    assert!(get(&mut connection, "a.example").contains("x-client-cert-subject: CN=bob"));
}

#[test]
fn a_revoked_certificate_is_refused() {
    let ca = ClientCa::new();
    let proxy = Running::start(demanding(&ca, ClientAuth::Require, vec![ca.revoke(&[7])]), Signing::AtOnce);
    let connect = |serial| {
        let client = Client::new(&proxy).showing(&ca.issue("alice", serial)).versions(&[&TLS12]);
        client.connect("a.example").map(drop)
    };
    connect(6).unwrap();
    let error = connect(7).unwrap_err().to_string();
    assert!(error.contains("CertificateRevoked"), "{error}");
}

#[test]
fn a_request_gets_past_no_demand_on_the_connection_of_another_site() {
    let ca = ClientCa::new();
    let proxy = Running::start(demanding(&ca, ClientAuth::Require, Vec::new()), Signing::AtOnce);
    let mut connection = Client::new(&proxy).connect("open.example").unwrap();
    let response = get(&mut connection, "a.example");
    assert!(response.starts_with("HTTP/1.1 421"), "{response}");
}

#[test]
fn a_ticket_is_good_only_where_the_same_clients_are_let_in() {
    let (ca, other) = (ClientCa::new(), ClientCa::new());
    let configuration = demanding(&ca, ClientAuth::Require, Vec::new());
    let proxy = Running::start(configuration, Signing::AtOnce);
    for version in [&TLS13, &TLS12] {
        let before = proxy.config();
        let client = Client::new(&proxy).versions(&[version]).showing(&ca.issue("alice", 1));
        let resumed = |client: &Client| {
            let mut connection = client.connect("a.example").ok()?;
            connection.read_something().ok()?; // brings the ticket, or the refusal
            Some(connection.tls().handshake_kind() == Some(HandshakeKind::Resumed))
        };
        assert_eq!(resumed(&client), Some(false));
        assert_eq!(resumed(&client), Some(true), "who was verified is still known");
        // The same keys, and another authority: the ticket opens nothing, and the certificate is not accepted.
        let mut changed = before.clone();
        changed.sites[0].client_ca = Some(other.file());
        proxy.reload(&changed).unwrap();
        assert_eq!(resumed(&client), None, "{version:?}");
        // A revocation ends the sessions of the revoked, too.
        let mut changed = before.clone();
        changed.sites[0].client_crl = vec![ca.revoke(&[1])];
        proxy.reload(&changed).unwrap();
        assert_eq!(resumed(&client), None, "{version:?}");
        proxy.reload(&before).unwrap();
    }
}

#[test]
fn a_session_outlives_no_certificate() {
    let ca = ClientCa::new();
    let proxy = Running::start(demanding(&ca, ClientAuth::Require, Vec::new()), Signing::AtOnce);
    for version in [&TLS13, &TLS12] {
        let soon = SystemTime::now() + Duration::from_secs(3);
        let client = Client::new(&proxy).versions(&[version]).showing(&ca.issue_until("alice", 1, soon));
        let exchange = |client: &Client| {
            let mut connection = client.connect("a.example").ok()?;
            connection.read_something().ok()?;
            Some(connection.tls().handshake_kind() == Some(HandshakeKind::Resumed))
        };
        assert_eq!(exchange(&client), Some(false));
        assert_eq!(exchange(&client), Some(true));
        // Nothing tells of it but the clock. X.509 counts whole seconds.
        while SystemTime::now() < soon + Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(exchange(&client), None, "{version:?}");
    }
}
