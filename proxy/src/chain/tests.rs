use std::io::Write;

use super::{Chain, ChainError};
use crate::config::HostPattern;

fn load(content: &str) -> Result<Chain, ChainError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    Chain::load(file.path())
}

fn self_signed(names: &[&str]) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    rcgen::generate_simple_self_signed(names).unwrap()
}

#[test]
fn certificates_are_read_and_a_private_key_is_refused() {
    let made = self_signed(&["www.example.org", "127.0.0.1"]);
    let chain = load(&format!("a comment\n{}", made.cert.pem())).unwrap();
    assert_eq!(chain.certificates().len(), 1);
    assert_eq!(chain.names(), ["www.example.org".into(), "127.0.0.1".into()]);
    assert!(chain.not_before() < chain.not_after());

    let with_key = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    let error = load(&with_key).unwrap_err();
    assert!(matches!(error, ChainError::PrivateKey { .. }), "{error}");
}

#[test]
fn files_that_hold_no_chain_say_why() {
    assert!(matches!(load("").unwrap_err(), ChainError::Empty { .. }));
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    assert!(matches!(load(broken).unwrap_err(), ChainError::NotPem { .. }));
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(load(nonsense).unwrap_err(), ChainError::Malformed { number: 1, .. }));
    let good = self_signed(&["a.example"]).cert.pem();
    let error = load(&(good + nonsense)).unwrap_err();
    assert!(matches!(error, ChainError::Malformed { number: 2, .. }), "{error}");
    let missing = Chain::load(std::path::Path::new("/nonexistent.pem")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent.pem"));
}

#[test]
fn a_wildcard_covers_one_label() {
    let chain = load(&self_signed(&["*.example.org", "example.net"]).cert.pem()).unwrap();
    for (host, covered) in [
        ("a.example.org", true),
        ("*.example.org", true),
        ("a.b.example.org", false),
        ("example.org", false),
        ("example.net", true),
        ("*.example.net", false),
        ("org", false),
    ] {
        assert_eq!(chain.covers(&host.parse::<HostPattern>().unwrap()), covered, "{host}");
    }
}
