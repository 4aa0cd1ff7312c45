use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair, SerialNumber};
use time::macros::datetime;

use super::*;

/// A certificate and its issuer's.
struct Made {
    chain: Vec<CertificateDer<'static>>,
    pem: String,
}

fn made(serial: u8, extensions: Vec<CustomExtension>) -> Made {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let mut leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    leaf.serial_number = Some(SerialNumber::from_slice(&[serial]));
    leaf.custom_extensions = extensions;
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(ca, ca_key)).unwrap();
    let chain = vec![leaf.der().clone(), ca_certificate.der().clone()];
    Made { chain, pem: leaf.pem() + &ca_certificate.pem() }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}

/// A response of SHA-1, in the form that responders give.
fn response(made: &Made, serial: u8, status: &[u8], next_update: Option<&str>) -> Vec<u8> {
    let (leaf, issuer) = (parse(&made.chain[0]).unwrap(), parse(&made.chain[1]).unwrap());
    let hash = |bytes: &[u8]| element(tag::OCTET_STRING, &Hash::Sha1.of(bytes).unwrap());
    let sha1 = element(tag::SEQUENCE, &[6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0]);
    let id = [
        sha1,
        hash(leaf.issuer().as_raw()),
        hash(&issuer.public_key().subject_public_key.data),
        element(tag::INTEGER, &[serial]),
    ];
    let time = |text: &str| element(tag::GENERALIZED_TIME, text.as_bytes());
    let mut single =
        [element(tag::SEQUENCE, &id.concat()), status.to_vec(), time("20260101000000Z")].concat();
    if let Some(next) = next_update {
        single.extend(element(tag::context(0), &time(next)));
    }
    let responder = element(tag::context(2), &element(tag::OCTET_STRING, &[7; 20]));
    let list = element(tag::SEQUENCE, &element(tag::SEQUENCE, &single));
    let data = element(tag::SEQUENCE, &[responder, time("20260101000000Z"), list].concat());
    let signed = [data, element(tag::SEQUENCE, &[]), element(3, &[0, 1])].concat();
    let basic = element(tag::OCTET_STRING, &element(tag::SEQUENCE, &signed));
    let oid = element(tag::OBJECT_IDENTIFIER, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
    let bytes = element(tag::context(0), &element(tag::SEQUENCE, &[oid, basic].concat()));
    element(tag::SEQUENCE, &[element(tag::ENUMERATED, &[0]), bytes].concat())
}

const GOOD: &[u8] = &[0x80, 0];

fn judged(der: &[u8], made: &Made, now: OffsetDateTime) -> Result<SystemTime, OcspError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.ocsp");
    std::fs::write(&file, der).unwrap();
    OcspResponse::load(&file)?.good_until(&made.chain, &file, now)
}

#[test]
fn a_response_is_good_for_its_certificate_and_time_only() {
    let made_one = made(7, Vec::new());
    let now = datetime!(2026-01-02 00:00 UTC);
    let next = Some("20260103000000Z");
    let good = response(&made_one, 7, GOOD, next);
    assert_eq!(judged(&good, &made_one, now).unwrap(), SystemTime::from(datetime!(2026-01-03 00:00 UTC)));

    let says = |der: &[u8], made: &Made, now| judged(der, made, now).unwrap_err().to_string();
    assert!(says(&good, &made_one, datetime!(2026-01-03 00:00 UTC)).contains("was valid until"));
    assert!(says(&good, &made_one, datetime!(2025-12-31 00:00 UTC)).contains("is not valid before"));
    let revoked = [&[0xa1, 17, 0x18, 15][..], b"20260101000000Z"].concat();
    let revoked = response(&made_one, 7, &revoked, next);
    assert!(says(&revoked, &made_one, now).contains("the certificate is revoked"));
    let unknown = response(&made_one, 7, &[0x82, 0], next);
    assert!(says(&unknown, &made_one, now).contains("unknown to the responder"));
    let endless = response(&made_one, 7, GOOD, None);
    assert!(says(&endless, &made_one, now).contains("until when"));
    let other_serial = response(&made_one, 8, GOOD, next);
    assert!(says(&other_serial, &made_one, now).contains("another certificate"));
    assert!(says(&good, &made(7, Vec::new()), now).contains("another issuer's"), "same name, another key");
    assert!(says(&element(tag::SEQUENCE, &[10, 1, 6]), &made_one, now).contains("(6)"));
    assert!(says(&[0x30; 70_000], &made_one, now).contains("is longer"));
}

#[test]
fn no_cut_and_no_flipped_byte_does_harm() {
    let made = made(7, Vec::new());
    let good = response(&made, 7, GOOD, Some("20260103000000Z"));
    for at in 0..good.len() {
        assert_eq!(singles(&good[..at]).unwrap_err(), Malformed, "{at}");
        let mut flipped = good.clone();
        flipped[at] ^= 0xff;
        let _read = singles(&flipped);
    }
    assert_eq!(singles(&[&good[..], &[0]].concat()).unwrap_err(), Malformed);
}

#[test]
fn a_certificate_that_demands_a_response_and_has_none_is_warned_of() {
    let feature = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
    let directory = tempfile::tempdir().unwrap();
    let (certificate, file) = (directory.path().join("a.pem"), directory.path().join("a.ocsp"));
    let to = "http://127.0.0.1:1".parse().unwrap();
    let mut site = SiteSettings::new(vec!["a.example".parse().unwrap()], vec![certificate.clone()], to);
    let now = datetime!(2026-01-02 00:00 UTC);
    for (demanding, extensions) in [(true, vec![feature]), (false, Vec::new())] {
        let made = made(7, extensions);
        std::fs::write(&certificate, &made.pem).unwrap();
        let chain = Chain::load(&certificate).unwrap();
        site.ocsp.clear();
        let problems = inspect(&site, &chain, now);
        assert_eq!(problems.iter().any(|problem| problem.contains("RFC 7633")), demanding, "{problems:?}");
        std::fs::write(&file, response(&made, 7, GOOD, Some("20260103000000Z"))).unwrap();
        site.ocsp = vec![file.clone()];
        assert_eq!(inspect(&site, &chain, now), Vec::<String>::new());
        let late = inspect(&site, &chain, datetime!(2026-02-02 00:00 UTC));
        assert!(late[0].starts_with("not stapled: ") && late.len() == 1 + usize::from(demanding), "{late:?}");
    }
}

#[test]
fn a_pipe_is_no_response_and_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let error = OcspResponse::load(&pipe).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}
