//! A thief with the proxy's own credentials gets handshakes signed, and nothing else; and leaves traces.

use keycore_audit::{Outcome, Subject};
use keycore_wire::{
    Attribute, AttributeChange, Attributes, KeyAlgorithm, KeySelector, PublicKey, RefusalCode, SetAttribute,
    Sign, SignatureScheme, TlsSign,
};

use crate::harness::{World, handshake};

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => out.push(length),
        Ok(length) => out.extend([0x81, length]),
        Err(_) => {
            out.push(0x82);
            out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

/// CN=x
fn name() -> Vec<u8> {
    let pair = element(0x30, &[&[6, 3, 0x55, 4, 3][..], &element(0x0c, b"x")].concat());
    element(0x30, &element(0x31, &pair))
}

fn request_for(spki: &[u8]) -> Vec<u8> {
    element(0x30, &[&[2, 1, 0][..], &name(), spki, &[0xa0, 0]].concat())
}

fn tbs_certificate(spki: &[u8]) -> Vec<u8> {
    let algorithm = element(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
    let validity =
        element(0x30, &[element(0x17, b"260101000000Z"), element(0x17, b"270101000000Z")].concat());
    let version = [0xa0, 3, 2, 1, 2];
    element(0x30, &[&version[..], &[2, 1, 9], &algorithm, &name(), &validity, &name(), spki].concat())
}

#[test]
fn a_tls_key_signs_handshakes_and_its_own_request_only() {
    let (_world, replica) = World::active();
    let mut thief = replica.client_of("web");
    let info = thief.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls/www");
    let other = thief.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls/other");
    let mut spki = |id| thief.call(&PublicKey { key: KeySelector::Id(id) }).unwrap().spki;
    let (spki, other_spki) = (spki(info.id), spki(other.id));
    let scheme = SignatureScheme::EcdsaP256Sha256;

    let client_verify = [&[b' '; 64], &b"TLS 1.3, client CertificateVerify"[..], &[0], &[0xab; 32]].concat();
    let own_request = request_for(&spki);
    let forbidden = [
        ("TBSCertificate", tbs_certificate(&spki)),
        ("JWT", b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9".to_vec()),
        ("client CertificateVerify", client_verify),
        ("bare digest", vec![0xab; 32]),
        ("another key's request", request_for(&other_spki)),
        ("request with something behind it", [&own_request[..], &[0]].concat()),
        ("handshake with something behind it", [&handshake()[..], &[0]].concat()),
        ("nothing", Vec::new()),
    ];
    for (what, message) in &forbidden {
        let tls = TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "www", message };
        assert_eq!(thief.refused(&tls), RefusalCode::NotATlsHandshake, "{what}");
        let sign = Sign { key: info.id, scheme, message };
        assert_eq!(thief.refused(&sign), RefusalCode::NotATlsHandshake, "{what}");
    }
    // Each operation signs its own kind of message only.
    let message = handshake();
    assert_eq!(
        thief.refused(&Sign { key: info.id, scheme, message: &message }),
        RefusalCode::NotATlsHandshake
    );
    let tls = TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "www", message: &own_request };
    assert_eq!(thief.refused(&tls), RefusalCode::NotATlsHandshake);

    thief.call(&TlsSign { message: &message, ..tls }).unwrap();
    thief.call(&Sign { key: info.id, scheme, message: &own_request }).unwrap();

    let refused = replica.audit.map(&replica.engine, |entry| {
        let attempt = matches!(&entry.subject, Subject::Signature { key: Some(key), .. } if *key == info.id);
        attempt && entry.outcome == Outcome::Refused(RefusalCode::NotATlsHandshake)
    });
    assert_eq!(refused.into_iter().filter(|refused| *refused).count(), 2 * forbidden.len() + 2);
}

#[test]
fn a_key_for_signing_makes_no_handshakes() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k").spki_sha256.unwrap();
    let message = handshake();
    let scheme = SignatureScheme::EcdsaP256Sha256;
    assert_eq!(
        web.refused(&TlsSign { key, scheme, site: "www", message: &message }),
        RefusalCode::KeyNotSuitable
    );
}

#[test]
fn tls13_handshakes_are_not_signed_with_pkcs1() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = web.generate(KeyAlgorithm::Rsa2048, Attributes::TLS_SERVER, "k").spki_sha256.unwrap();
    let message = handshake();
    let sign = |scheme| TlsSign { key, scheme, site: "www", message: &message };
    assert_eq!(web.refused(&sign(SignatureScheme::RsaPkcs1Sha256)), RefusalCode::NotATlsHandshake);
    web.call(&sign(SignatureScheme::RsaPssSha256)).unwrap();
}

/// A key of one end never signs for the other, and neither signs what a TLS 1.2 client does.
#[test]
fn a_clients_key_signs_its_own_handshakes_and_request_only() {
    let (_world, replica) = World::active();
    let mut thief = replica.client_of("web");
    let info = thief.generate(KeyAlgorithm::P256, Attributes::TLS_CLIENT, "tls/upstream");
    let spki = thief.call(&PublicKey { key: KeySelector::Id(info.id) }).unwrap().spki;
    let scheme = SignatureScheme::EcdsaP256Sha256;
    let verify = |end: &str| {
        [&[b' '; 64], format!("TLS 1.3, {end} CertificateVerify").as_bytes(), &[0], &[0xab; 32]].concat()
    };
    let own_request = request_for(&spki);
    let mut tls12_server = [&[7; 56][..], b"DOWNGRD\x01", &[3, 0, 29, 32]].concat();
    tls12_server.extend([9; 32]);
    let tls12_client = [&[1, 0, 0, 60, 3, 3][..], &[7; 300]].concat();
    for (what, message) in [
        ("server CertificateVerify", verify("server")),
        ("TLS 1.2 ServerKeyExchange", tls12_server),
        ("TLS 1.2 client CertificateVerify", tls12_client),
        ("TBSCertificate", tbs_certificate(&spki)),
        ("handshake with something behind it", [&verify("client")[..], &[0]].concat()),
        ("nothing", Vec::new()),
    ] {
        let tls = TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "up", message: &message };
        assert_eq!(thief.refused(&tls), RefusalCode::NotATlsHandshake, "{what}");
        let sign = Sign { key: info.id, scheme, message: &message };
        assert_eq!(thief.refused(&sign), RefusalCode::NotATlsHandshake, "{what}");
    }
    let message = verify("client");
    thief.call(&TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "up", message: &message }).unwrap();
    thief.call(&Sign { key: info.id, scheme, message: &own_request }).unwrap();
    // One purpose, for good.
    let both = Attributes::TLS_SERVER.with(Attributes::TLS_CLIENT);
    assert_eq!(
        thief.refused(&crate::harness::generate(KeyAlgorithm::P256, both, "both")),
        RefusalCode::InvalidAttributes
    );
    let change = AttributeChange::Set(Attribute::TlsServer, true);
    assert_eq!(thief.refused(&SetAttribute { key: info.id, change }), RefusalCode::AttributeFixed);
}
