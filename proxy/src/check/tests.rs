use std::path::Path;
use std::time::Duration;

use keycore_client::{Error, Identity};
use keycore_wire::{Refusal, RefusalCode, Secret, SignatureScheme};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::SignatureScheme as TlsScheme;
use time::OffsetDateTime;

use super::{End, Report, SiteReport, certificate, check, proof};
use crate::chain::Chain;
use crate::config::{CertificateSource, Config, SiteSettings};
use crate::signer::EngineKeys;

struct Made {
    directory: tempfile::TempDir,
    leaf: rcgen::Certificate,
    leaf_key: KeyPair,
    intermediate: rcgen::Certificate,
    root: rcgen::Certificate,
}

fn make(names: &[&str]) -> Made {
    make_for(names, 60)
}

/// Valid for so many days from now on.
fn make_for(names: &[&str], days: i64) -> Made {
    let ca = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let (root_key, intermediate_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let leaf_key = KeyPair::generate().unwrap();
    let root = ca("root").self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(ca("root"), &root_key);
    let intermediate = ca("intermediate").signed_by(&intermediate_key, &root_issuer).unwrap();
    let issuer = Issuer::new(ca("intermediate"), &intermediate_key);
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = OffsetDateTime::now_utc() - time::Duration::HOUR;
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
    let leaf = params.signed_by(&leaf_key, &issuer).unwrap();
    Made { directory: tempfile::tempdir().unwrap(), leaf, leaf_key, intermediate, root }
}

impl Made {
    fn chain(&self, certificates: &[&rcgen::Certificate]) -> Chain {
        let path = self.directory.path().join("chain.pem");
        let pem: String = certificates.iter().map(|certificate| certificate.pem()).collect();
        std::fs::write(&path, pem).unwrap();
        Chain::load(&path).unwrap()
    }

    fn inspect(&self, certificates: &[&rcgen::Certificate], in_days: i64) -> SiteReport {
        let mut report = SiteReport::default();
        let now = OffsetDateTime::now_utc() + time::Duration::days(in_days);
        certificate::inspect(End::Server, &self.chain(certificates), now, &mut report);
        report
    }
}

#[test]
fn a_good_chain_has_no_problem_and_wrong_orders_are_named() {
    let made = make(&["www.example.org"]);
    let good = made.inspect(&[&made.leaf, &made.intermediate], 0);
    assert!(good.errors.is_empty() && good.warnings.is_empty(), "{good:?}");
    let with_root = made.inspect(&[&made.leaf, &made.intermediate, &made.root], 0);
    assert!(with_root.errors.is_empty() && with_root.warnings[0].contains("root"), "{with_root:?}");
    let alone = made.inspect(&[&made.leaf], 0);
    assert!(alone.warnings[0].contains("intermediate"), "{alone:?}");
    let skipping = made.inspect(&[&made.leaf, &made.root], 0);
    assert!(skipping.errors[0].contains("certificate 1 was issued by"), "{skipping:?}");
    let reversed = made.inspect(&[&made.intermediate, &made.leaf], 0);
    assert!(!reversed.errors.is_empty() && reversed.warnings[0].contains("CA"), "{reversed:?}");
}

#[test]
fn expiry_is_told_before_and_after() {
    let made = make(&["www.example.org"]);
    let chain = [&made.leaf, &made.intermediate];
    let soon = made.inspect(&chain, 50);
    assert!(soon.errors.is_empty() && soon.warnings[0].contains("certificate 1 expires on"), "{soon:?}");
    let late = made.inspect(&chain, 61);
    assert!(late.errors[0].contains("certificate 1 expired on"), "{late:?}");
    let short = make_for(&["www.example.org"], 6);
    for (in_days, warnings) in [(0, 0), (3, 0), (4, 1), (5, 1)] {
        let report = short.inspect(&[&short.leaf, &short.intermediate], in_days);
        assert_eq!(report.warnings.len(), warnings, "after {in_days} of six days: {report:?}");
    }
    let early = made.inspect(&chain, -365 * 100);
    assert!(early.errors[0].contains("is not valid before"), "{early:?}");
}

#[test]
fn the_proof_accepts_the_right_key_only() {
    let made = make(&["www.example.org"]);
    let chain = made.chain(&[&made.leaf]);
    let sign = |key: &KeyPair| {
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        key.choose_scheme(&[TlsScheme::ECDSA_NISTP256_SHA256]).unwrap().sign(b"message").unwrap()
    };
    let scheme = SignatureScheme::EcdsaP256Sha256;
    proof::verify(&chain, scheme, b"message", &sign(&made.leaf_key)).unwrap();
    proof::verify(&chain, scheme, b"another", &sign(&made.leaf_key)).unwrap_err();
    proof::verify(&chain, scheme, b"message", &sign(&KeyPair::generate().unwrap())).unwrap_err();
    proof::verify(&chain, SignatureScheme::Ed25519, b"message", &sign(&made.leaf_key)).unwrap_err();
}

#[test]
fn a_key_of_another_usage_is_told_from_one_that_is_not_there_and_one_that_does_not_answer() {
    let told = |end, code| {
        let detail = "some detail".to_owned();
        proof::ProofError::of(end, Error::Refused(Refusal { code, detail })).to_string()
    };
    for code in [RefusalCode::NotATlsHandshake, RefusalCode::KeyNotSuitable] {
        assert!(told(End::Client, code).contains("is not of usage tls-client"), "{code:?}");
        assert!(told(End::Server, code).contains("is not of usage tls-server"), "{code:?}");
    }
    assert!(told(End::Client, RefusalCode::NotFound).contains("have no key of this user"));
    assert!(told(End::Client, RefusalCode::Overloaded).starts_with("no engine signed"));
}

fn checked(cert: &[&Path], host: &str) -> Report {
    let cert = CertificateSource::Files(cert.iter().map(|&path| path.to_owned()).collect());
    checked_from(cert, host)
}

fn checked_from(cert: CertificateSource, host: &str) -> Report {
    let to = "http://127.0.0.1:1".parse().unwrap();
    let site = SiteSettings { cert, ..SiteSettings::new(vec![host.parse().unwrap()], Vec::new(), to) };
    let config = Config { sites: vec![site], ..Config::default() };
    let identity = Identity::with_password("web".parse().unwrap(), Secret::new(b"not a password".to_vec()));
    let nowhere = std::path::PathBuf::from("/nonexistent/engine-0.sock");
    let keys = EngineKeys::new(vec![nowhere.into()], identity, Duration::from_millis(20));
    check(&config, Path::new("/nonexistent.toml"), &keys, OffsetDateTime::now_utc())
}

#[test]
fn a_site_says_everything_that_is_wrong_with_it() {
    let made = make(&["www.example.org"]);
    made.chain(&[&made.leaf, &made.intermediate]);
    let report = checked(&[&made.directory.path().join("chain.pem")], "shop.example.org");
    assert!(!report.is_good());
    let text = report.to_string();
    assert!(text.starts_with("FAILED  shop.example.org: p256, 59 days left\n"), "{text}");
    assert!(
        text.contains("error: the certificate is not for shop.example.org; its names: www.example.org\n"),
        "{text}"
    );
    assert!(text.contains("error: no engine signed with the certificate's key: "), "{text}");

    let text = checked(&[Path::new("/nonexistent.pem")], "a.example").to_string();
    assert!(text.contains("error: /nonexistent.pem: No such file"), "{text}");
    // Each of several by itself.
    let report =
        checked(&[&made.directory.path().join("chain.pem"), Path::new("/none.pem")], "www.example.org");
    assert_eq!(report.sites.len(), 2);
    let text = report.to_string();
    assert!(text.contains("www.example.org, ") && text.contains("chain.pem: p256, 59 days left\n"), "{text}");
    assert!(text.contains("error: /none.pem: No such file"), "{text}");
}

#[test]
fn files_of_a_directory_are_tried_and_those_that_nobody_gets_are_named() {
    let made = make(&["a.example"]);
    let checked = |directory: &Path| checked_from(CertificateSource::Directory(directory.into()), "*");
    let directory = made.directory.path();
    let text = checked(directory).to_string();
    assert!(text.contains("there is no certificate in this directory"), "{text}");

    made.chain(&[&made.leaf, &made.intermediate]);
    for file in ["a.example.pem", "_.b.example.pem", "Upper.example.pem"] {
        std::fs::copy(directory.join("chain.pem"), directory.join(file)).unwrap();
    }
    std::fs::remove_file(directory.join("chain.pem")).unwrap();
    std::fs::write(directory.join("a.example.pem.new"), "not read").unwrap();
    let report = checked(directory);
    let text = report.to_string();
    assert!(text.contains("Upper.example.pem is never served"), "{text}");
    assert!(text.contains("the certificate is not for *.b.example; its names: a.example"), "{text}");
    let good = report.sites.iter().find(|site| site.hosts == "a.example").unwrap();
    assert_eq!((good.key.as_str(), good.errors.len()), ("p256", 1), "no engine is there: {good:?}");
    assert_eq!(report.sites.len(), 3, "{text}");

    let text = checked(&directory.join("nothing")).to_string();
    assert!(text.contains("nothing: No such file"), "{text}");
}
