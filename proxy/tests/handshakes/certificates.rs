//! Sites with several certificates.

use crate::support::{Client, Running, Signing, config};

fn with_certificates(kinds: &[&str]) -> hsm_proxy::Config {
    let mut config = config(&[&["a.example"]]);
    config.sites[0].cert = hsm_proxy::CertificateSource::Files(kinds.iter().map(Into::into).collect());
    config
}

#[test]
fn each_client_gets_the_certificate_that_it_can_verify() {
    let proxy = Running::start(with_certificates(&["rsa", "p256", "p384"]), Signing::AtOnce);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (verifying, certificate) in [
            ("", "a.example p256"), // although RSA is named first
            ("ECDSA", "a.example p256"),
            ("P384", "a.example p384"),
            ("RSA", "a.example"),
        ] {
            let client = Client::new(&proxy).versions(&[version]).verifying(verifying);
            let connection = client.connect("a.example").unwrap();
            assert_eq!(connection.certificate(), proxy.certificate(certificate), "{version:?} {verifying}");
        }
    }
    // In TLS 1.2, the cipher suite says what may sign.
    let client = Client::new(&proxy).versions(&[&rustls::version::TLS12]).suites("_RSA_");
    let connection = client.connect("a.example").unwrap();
    assert_eq!(connection.certificate(), proxy.certificate("a.example"));
}

#[test]
fn a_client_that_can_verify_none_gets_the_right_alert() {
    let proxy = Running::start(with_certificates(&["p256", "p384"]), Signing::AtOnce);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Client::new(&proxy).versions(&[version]).verifying("RSA");
        let error = client.connect("a.example").err().unwrap().to_string();
        assert!(error.contains("HandshakeFailure"), "{error}");
    }
}

#[test]
fn a_certificate_that_nobody_would_get_is_refused() {
    let error = Running::try_start(with_certificates(&["p256", "p256"]), Signing::AtOnce).err().unwrap();
    assert!(error.is_configuration());
    let error = error.to_string();
    assert!(error.contains("site a.example") && error.contains("0-1-p256.pem"), "{error}");
}
