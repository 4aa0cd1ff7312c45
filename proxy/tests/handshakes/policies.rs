//! What sites demand of TLS, the default site, and requests for one site on the connection of another.

use hsm_proxy::{MinTls, TlsPreset};
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::support::{Client, Running, Signing, config, get};

#[test]
fn a_site_may_demand_tls_1_3() {
    let mut config = config(&[&["strict.example"], &["a.example"]]);
    config.sites[0].min_tls = Some(MinTls::Tls13);
    let proxy = Running::start(config, Signing::AtOnce);
    Client::new(&proxy).versions(&[&TLS12]).connect("a.example").unwrap();
    let error = Client::new(&proxy).versions(&[&TLS12]).connect("strict.example").err().unwrap().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let connection = Client::new(&proxy).versions(&[&TLS13]).connect("strict.example").unwrap();
    assert_eq!(connection.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn the_preset_modern_is_tls_1_3_for_all_sites_that_say_nothing_else() {
    let mut config = config(&[&["a.example"], &["old.example"]]);
    config.tls.preset = TlsPreset::Modern;
    config.sites[1].min_tls = Some(MinTls::Tls12);
    let proxy = Running::start(config, Signing::AtOnce);
    let client = Client::new(&proxy).versions(&[&TLS12]);
    assert!(client.connect("a.example").err().unwrap().to_string().contains("ProtocolVersion"));
    client.connect("old.example").unwrap();
}

#[test]
fn the_default_site_takes_whoever_asks_for_no_site() {
    let mut config = config(&[&["a.example", "127.0.0.1.example"], &["b.example"]]);
    config.tls.default_site = Some("b.example".parse().unwrap());
    let proxy = Running::start(config, Signing::AtOnce);
    // The client sees the default site's certificate, which is not for these names.
    for name in ["nobodys.example", "127.0.0.1"] {
        let mut connection = Client::new(&proxy).trusting_anybody().connect(name).unwrap();
        assert_eq!(connection.certificate(), proxy.certificate("b.example"), "{name}");
        let response = get(&mut connection, name);
        assert!(response.starts_with("HTTP/1.1 200"), "{name}: {response}");
    }
    let connection = Client::new(&proxy).connect("a.example").unwrap();
    assert_eq!(connection.certificate(), proxy.certificate("a.example"));
}

#[test]
fn a_request_for_another_site_is_sent_to_a_connection_of_its_own() {
    let proxy = Running::start(config(&[&["a.example", "*.a.example"], &["b.example"]]), Signing::AtOnce);
    for (host, status) in
        [("a.example", 200), ("x.a.example", 200), ("b.example", 421), ("nobodys.example", 421)]
    {
        let mut connection = Client::new(&proxy).connect("a.example").unwrap();
        let response = get(&mut connection, host);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {response}");
    }
}
