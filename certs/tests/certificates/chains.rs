use std::time::Duration;

use hsm_certs::{
    CaProfile, Certificate, CertificateRequest, ClientKey, ClientProfile, Error, Issuer, RemoteKey,
    ServerProfile, Subject, root_ca, self_signed,
};
use keycore_wire::{Attributes, KeyAlgorithm};

use crate::fake_engine::FakeEngine;
use crate::verifiers::{DAY, names, openssl, validity, webpki, webpki_client};

const NOW: Duration = Duration::ZERO;

fn ca_profile(name: &str, days: u32) -> CaProfile {
    CaProfile::new(name.parse().unwrap(), validity(days))
}

fn root(key: &RemoteKey<'_>) -> Certificate {
    root_ca(key, &ca_profile("Test root", 3650)).unwrap()
}

fn site() -> ServerProfile {
    ServerProfile::new(names(&["localhost", "*.example.org", "127.0.0.1", "::1"]), validity(90))
}

#[test]
fn chains_of_every_algorithm_are_accepted() {
    for algorithm in [
        KeyAlgorithm::Rsa2048,
        KeyAlgorithm::P256,
        KeyAlgorithm::P384,
        KeyAlgorithm::P521,
        KeyAlgorithm::Ed25519,
    ] {
        let mut engine = FakeEngine::with(&[("root", algorithm), ("middle", algorithm)]);
        engine.generate("site", algorithm, Attributes::TLS_SERVER);
        let (root_key, middle_key) = (engine.key("root"), engine.key("middle"));
        let root = root(&root_key);
        let middle = Issuer::new(root.chain_pem().as_bytes(), &root_key)
            .unwrap()
            .intermediate_ca(&middle_key.subject(), &ca_profile("Test issuing CA", 365))
            .unwrap();
        let site = Issuer::new(middle.chain_pem().as_bytes(), &middle_key)
            .unwrap()
            .issue(&engine.key("site").subject(), &site())
            .unwrap();
        assert_eq!(site.chain().count(), 2, "leaf and intermediate, no root");
        site.require_key(&engine.key("site")).unwrap();
        for name in ["localhost", "www.example.org", "127.0.0.1", "::1"] {
            assert_eq!(webpki(&site, &root, name, NOW), Ok(()), "{algorithm}: {name}");
        }
        assert!(openssl(&site, &root, "www.example.org"), "{algorithm}");
        assert!(openssl(&site, &root, "127.0.0.1"), "{algorithm}");
    }
}

#[test]
fn algorithms_mix_within_a_chain() {
    let engine = FakeEngine::with(&[("root", KeyAlgorithm::P384), ("site", KeyAlgorithm::Rsa3072)]);
    let root_key = engine.key("root");
    let root = root(&root_key);
    let site = Issuer::new(root.pem().as_bytes(), &root_key)
        .unwrap()
        .issue(&engine.key("site").subject(), &site())
        .unwrap();
    assert_eq!(webpki(&site, &root, "localhost", NOW), Ok(()));
    assert!(openssl(&site, &root, "localhost"));
}

#[test]
fn self_signed_certificates_are_their_own_root() {
    let engine = FakeEngine::with(&[("site", KeyAlgorithm::P256)]);
    let site = self_signed(&engine.key("site"), &site()).unwrap();
    assert_eq!(webpki(&site, &site, "localhost", NOW), Ok(()));
    assert!(openssl(&site, &site, "localhost"));
}

#[test]
fn what_must_not_verify_does_not() {
    let engine = FakeEngine::with(&[("root", KeyAlgorithm::P256), ("other", KeyAlgorithm::P256)]);
    let (root_key, other_key) = (engine.key("root"), engine.key("other"));
    let (root, other) = (root(&root_key), root(&other_key));
    let site =
        Issuer::new(root.pem().as_bytes(), &root_key).unwrap().issue(&other_key.subject(), &site()).unwrap();
    assert!(webpki(&site, &root, "www.example.com", NOW).is_err(), "another name");
    assert!(webpki(&site, &root, "a.b.example.org", NOW).is_err(), "two labels below a wildcard");
    assert!(webpki(&site, &root, "localhost", 91 * DAY).is_err(), "expired");
    assert!(webpki(&site, &other, "localhost", NOW).is_err(), "a root of the same name with another key");
    // A server's certificate can't be made an issuer, neither here nor by whoever steals the key.
    assert!(matches!(Issuer::new(site.pem().as_bytes(), &other_key), Err(Error::NotACa { .. })));
}

#[test]
fn an_issuer_needs_its_own_key_and_one_that_may_certify() {
    let mut engine = FakeEngine::with(&[("root", KeyAlgorithm::P256), ("other", KeyAlgorithm::P256)]);
    engine.generate("bound", KeyAlgorithm::P256, Attributes::TLS_SERVER);
    let root = root(&engine.key("root"));
    let pem = root.pem();
    assert!(matches!(Issuer::new(pem.as_bytes(), &engine.key("other")), Err(Error::KeyMismatch { .. })));
    assert!(matches!(Issuer::new(pem.as_bytes(), &engine.key("bound")), Err(Error::TlsBound { .. })));
    assert!(matches!(
        root_ca(&engine.key("bound"), &ca_profile("x", 1)),
        Err(Error::TlsBound { label }) if label.as_str() == "bound"
    ));
    assert!(matches!(self_signed(&engine.key("bound"), &site()), Err(Error::TlsBound { .. })));
    assert!(matches!(Issuer::new(b"nothing", &engine.key("root")), Err(Error::NoPem { .. })));
    assert!(matches!(
        Issuer::new(hsm_certs::to_pem("CERTIFICATE", b"junk").as_bytes(), &engine.key("root")),
        Err(Error::Unreadable { .. })
    ));
}

#[test]
fn path_lengths_shrink_downwards() {
    let engine = FakeEngine::with(&[("root", KeyAlgorithm::P256), ("a", KeyAlgorithm::P256)]);
    let (root_key, key) = (engine.key("root"), engine.key("a"));
    let root = root_ca(&root_key, &CaProfile { path_length: Some(1), ..ca_profile("Root", 3650) }).unwrap();
    let issuer = Issuer::new(root.pem().as_bytes(), &root_key).unwrap();
    let too_long = CaProfile { path_length: Some(1), ..ca_profile("A", 30) };
    assert!(matches!(
        issuer.intermediate_ca(&key.subject(), &too_long),
        Err(Error::PathLength { issuer: 1 })
    ));
    let last = issuer.intermediate_ca(&key.subject(), &ca_profile("A", 30)).unwrap();
    let last = Issuer::new(last.chain_pem().as_bytes(), &key).unwrap();
    assert!(matches!(
        last.intermediate_ca(&root_key.subject(), &ca_profile("B", 3)),
        Err(Error::PathLength { issuer: 0 })
    ));
}

#[test]
fn nothing_outlives_its_issuer() {
    let engine = FakeEngine::with(&[("root", KeyAlgorithm::P256), ("site", KeyAlgorithm::P256)]);
    let root_key = engine.key("root");
    let root = root_ca(&root_key, &ca_profile("Short", 30)).unwrap();
    let issuer = Issuer::new(root.pem().as_bytes(), &root_key).unwrap();
    let error = issuer.issue(&engine.key("site").subject(), &site()).unwrap_err();
    assert!(matches!(error, Error::OutlivesIssuer { .. }), "{error}");
}

#[test]
fn a_public_key_that_is_not_the_one_named_is_refused() {
    let engine = FakeEngine::with(&[("a", KeyAlgorithm::P256), ("b", KeyAlgorithm::P256)]);
    let mut swapped = engine.public_key("a");
    swapped.spki = engine.public_key("b").spki;
    assert!(matches!(RemoteKey::new(swapped, &engine), Err(Error::InvalidPublicKey { .. })));
    let mut relabelled = engine.public_key("a");
    relabelled.info.algorithm = KeyAlgorithm::P384;
    assert!(matches!(RemoteKey::new(relabelled, &engine), Err(Error::InvalidPublicKey { .. })));
}

#[test]
fn clients_are_certified_for_nothing_else() {
    let engine = FakeEngine::with(&[("root", KeyAlgorithm::P384)]);
    let root_key = engine.key("root");
    let root = root_ca(&root_key, &CaProfile { path_length: Some(0), ..ca_profile("Root", 30) }).unwrap();
    let issuer = Issuer::new(root.pem().as_bytes(), &root_key).unwrap();
    let subject = Subject { common_name: Some("proxy-1".parse().unwrap()), organization: None };
    let pem = ClientKey::generate().unwrap().request(&subject).unwrap();
    let request = CertificateRequest::from_pem(pem.as_bytes()).unwrap();
    assert_eq!((request.subject(), request.names()), (&subject, &[][..]));
    let profile =
        ClientProfile { common_name: "proxy-1".parse().unwrap(), organization: None, validity: validity(10) };
    let client = issuer.issue_client(request.subject_key(), &profile).unwrap();
    assert_eq!(webpki_client(&client, &root), Ok(()));
    assert!(webpki(&client, &root, "proxy-1", NOW).is_err(), "no server");
    let outlives = ClientProfile { validity: validity(31), ..profile };
    let refused = issuer.issue_client(request.subject_key(), &outlives).unwrap_err();
    assert!(matches!(refused, Error::OutlivesIssuer { .. }), "{refused}");
}
