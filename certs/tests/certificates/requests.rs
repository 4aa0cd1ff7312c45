use std::time::Duration;

use hsm_certs::{
    CaProfile, CertificateRequest, Error, Issuer, ServerNames, ServerProfile, Subject, request, root_ca,
};
use keycore_wire::{Attributes, KeyAlgorithm};

use crate::fake_engine::FakeEngine;
use crate::verifiers::{names, openssl, openssl_command, validity, webpki};

fn subject() -> Subject {
    Subject {
        common_name: Some("Example site".parse().unwrap()),
        organization: Some("Ünïcode".parse().unwrap()),
    }
}

#[test]
fn requests_of_every_algorithm_come_back_whole() {
    for algorithm in KeyAlgorithm::TLS {
        if matches!(algorithm, KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096) {
            continue; // as 2048, only slower
        }
        let mut engine = FakeEngine::default();
        engine.generate("site", algorithm, Attributes::TLS_SERVER);
        let key = engine.key("site");
        let pem = request(&key, &subject(), &names(&["a.example.org", "::1"])).unwrap();
        let read = CertificateRequest::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(read.subject_key(), &key.subject());
        assert_eq!(read.subject(), &subject());
        assert_eq!(read.names(), names(&["a.example.org", "::1"]).as_slice());
    }
}

#[test]
fn openssl_accepts_our_request() {
    let engine = FakeEngine::with(&[("site", KeyAlgorithm::P256)]);
    let pem = request(&engine.key("site"), &subject(), &names(&["a.example.org"])).unwrap();
    let Some(mut openssl) = openssl_command() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("csr.pem"), pem).unwrap();
    let output = openssl
        .args(["req", "-in", "csr.pem", "-noout", "-verify", "-text"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("DNS:a.example.org"));
}

#[test]
fn a_changed_request_is_refused() {
    let engine = FakeEngine::with(&[("site", KeyAlgorithm::P256)]);
    let pem = request(&engine.key("site"), &subject(), &names(&["a.example.org"])).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    let at = der.windows(13).position(|part| part == b"a.example.org").unwrap();
    let mut changed = der.clone();
    changed[at] = b'b';
    assert!(matches!(CertificateRequest::from_der(&changed), Err(Error::RequestSignature)));
    let mut longer = der.clone();
    longer.push(0);
    assert!(matches!(CertificateRequest::from_der(&longer), Err(Error::Unreadable { .. })));
    for end in 0..der.len() {
        assert!(CertificateRequest::from_der(&der[..end]).is_err(), "cut at {end}");
    }
    assert!(matches!(CertificateRequest::from_pem(b""), Err(Error::NoPem { .. })));
}

/// A request made by openssl: its key, then a certificate for it.
#[test]
fn foreign_requests_are_served_and_none_becomes_a_ca() {
    let Some(_) = openssl_command() else { return };
    let dir = tempfile::tempdir().unwrap();
    let make = |algorithm: &[&str], digest: &str, extension: &str| {
        let output = openssl_command()
            .unwrap()
            .args(["req", "-new", "-nodes", "-keyout", "key.pem", "-out", "csr.pem", digest])
            .args(["-subj", "/O=Foreign/CN=b.example.org", "-addext", extension])
            .args(algorithm)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        CertificateRequest::from_pem(&std::fs::read(dir.path().join("csr.pem")).unwrap())
    };
    let p384 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    // The digest of the next lower curve: the key's curve must be told from the key, not from the signature.
    let read = make(&p384, "-sha256", "subjectAltName=DNS:b.example.org,IP:10.0.0.1").unwrap();
    assert_eq!(read.names(), names(&["b.example.org", "10.0.0.1"]).as_slice());

    let engine = FakeEngine::with(&[("root", KeyAlgorithm::Rsa2048)]);
    let key = engine.key("root");
    let root = root_ca(&key, &CaProfile::new("Root".parse().unwrap(), validity(30))).unwrap();
    let profile = ServerProfile {
        subject: read.subject().clone(),
        names: ServerNames::new(read.names().to_vec()).unwrap(),
        validity: validity(10),
    };
    let site = Issuer::new(root.pem().as_bytes(), &key).unwrap().issue(read.subject_key(), &profile).unwrap();
    assert_eq!(site.public_key().unwrap(), *read.subject_key());
    assert_eq!(webpki(&site, &root, "b.example.org", Duration::ZERO), Ok(()));
    assert!(openssl(&site, &root, "10.0.0.1"));

    let refused = make(&p384, "-sha384", "basicConstraints=critical,CA:TRUE").unwrap_err();
    assert!(matches!(refused, Error::RequestRefused { .. }), "{refused}");
    let refused = make(&p384, "-sha384", "subjectAltName=URI:https://b.example.org/").unwrap_err();
    assert!(matches!(refused, Error::RequestRefused { .. }), "{refused}");
    let refused = make(&["-newkey", "rsa:1024"], "-sha256", "subjectAltName=DNS:b.example.org").unwrap_err();
    assert!(matches!(refused, Error::RequestSignature | Error::UnsupportedAlgorithm { .. }), "{refused}");
    let refused = make(&["-newkey", "rsa:2048"], "-sha1", "subjectAltName=DNS:b.example.org").unwrap_err();
    assert!(matches!(refused, Error::UnsupportedAlgorithm { .. }), "{refused}");
}
