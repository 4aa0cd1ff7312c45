//! A site whose certificates are looked up.

use std::path::Path;

use hsm_proxy::{CertificateSource, Config};

use crate::support::{Client, Running, Signing, config, get};

/// The first site makes the keys; the second has its certificates in a directory.
fn with_directory(hosts: &[&str], directory: &Path) -> Config {
    let mut config = config(&[&["a.example"], hosts]);
    let path = format!("{}/", directory.display());
    config.sites[1].cert = CertificateSource::Directory(path.into());
    config
}

#[test]
fn each_name_has_the_certificate_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = Running::start(with_directory(&["*"], directory.path()), Signing::AtOnce);
    let write = |file: &str, host: &str| {
        let made = proxy.other_certificate("a.example", host);
        std::fs::write(directory.path().join(file), made.pem()).unwrap();
        made.der().to_vec()
    };
    let own = write("www.example.org.pem", "www.example.org");
    let wildcard = write("_.example.net.pem", "*.example.net");
    std::fs::write(directory.path().join("bad.example.pem"), "nothing").unwrap();

    for (name, certificate) in [
        ("www.example.org", &own),
        ("WWW.Example.ORG", &own),
        ("x.example.net", &wildcard),
        ("y.example.net", &wildcard),
    ] {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let connection = Client::new(&proxy).versions(&[version]).connect(name).unwrap();
            assert_eq!(connection.certificate().as_ref(), certificate, "{name}");
        }
    }
    let named = Client::new(&proxy).connect("a.example").unwrap();
    assert_eq!(named.certificate(), proxy.certificate("a.example"), "sites with a name go before");

    // Of those that were asked for.
    proxy.wait_for_metric("hsm_proxy_certificate_expiry_timestamp_seconds{site=\"*\"} ");

    for (name, alert) in [
        ("nobody.example", "UnrecognisedName"),
        ("127.0.0.1", "MissingExtension"),
        ("bad.example", "InternalError"),
    ] {
        let error = Client::new(&proxy).connect(name).err().unwrap().to_string();
        assert!(error.contains(alert), "{name}: {error}");
    }
}

#[test]
fn a_connection_serves_the_name_of_its_handshake_only_and_resumes_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = Running::start(with_directory(&["*.example.net"], directory.path()), Signing::AtOnce);
    let made = proxy.other_certificate("a.example", "*.example.net");
    std::fs::write(directory.path().join("_.example.net.pem"), made.pem()).unwrap();
    let client = Client::new(&proxy);
    let mut connection = client.connect("x.example.net").unwrap();
    let response = get(&mut connection, "y.example.net");
    assert!(response.starts_with("HTTP/1.1 421"), "{response}");
    for kind in ["full", "resumed"] {
        let client = &client;
        let mut connection = client.connect("z.example.net").unwrap();
        let response = get(&mut connection, "Z.example.net.");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert!(response.contains(kind), "{kind}: {response}");
    }
    let error = Client::new(&proxy).connect("x.example.org").err().unwrap().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_refused_at_the_start() {
    let config = with_directory(&["*"], Path::new("/nonexistent/certs"));
    let error = Running::try_start(config, Signing::AtOnce).err().unwrap();
    assert!(error.is_configuration());
    let error = error.to_string();
    assert!(error.contains("site *") && error.contains("/nonexistent/certs"), "{error}");
}
