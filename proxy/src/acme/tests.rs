//! Against an authority in this process, for what Debian's pebble does not have: advice on renewal, and refusals with a time.

mod authority;
mod hostile;
mod keys;

use std::time::Duration;

use time::macros::datetime;

use authority::{Answer, Authority, Honest};

use super::account::Directory;
use super::https::Https;
use super::renewal::{Window, certificate_id};
use super::site::hangs_together;
use crate::chain::Chain;

/// A directory with advice on renewal.
fn directory(base: &str) -> Answer {
    let mut directory = Honest::directory(base);
    directory["renewalInfo"] = format!("{base}/renewal/").into();
    Answer::json(&directory)
}

#[tokio::test]
async fn an_authority_is_asked_when_to_renew_and_for_how_long_that_holds() {
    let authority = Authority::start(|asked| match &*asked.path {
        "/directory" => directory(&asked.base),
        "/renewal/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" => Answer::new(200, r#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00Z"},"explanationURL":"https://x"}"#)
            .with("retry-after", "7200"),
        _ => Answer::problem(429, "rateLimited", "too many").with("retry-after", "90"),
    })
    .await;
    let https = authority.https();
    let found = Directory::fetch(&https, &authority.directory()).await.unwrap();
    let asked = Window::ask(&https, &found, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE").await.unwrap();
    let (window, holds) = asked.unwrap();
    let latest = datetime!(2027-01-01 00:00 UTC);
    assert_eq!(window.at(0.0, latest), datetime!(2026-01-02 04:00 UTC));
    assert_eq!(window.at(0.5, latest), datetime!(2026-01-02 16:00 UTC));
    assert_eq!(holds, Duration::from_secs(7200));

    let refused = Window::ask(&https, &found, "unknown").await.unwrap_err();
    assert!(refused.is("rateLimited") && !refused.spoils_the_order(), "{refused}");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(90)));
}

#[tokio::test]
async fn an_authority_that_nobody_vouches_for_is_asked_nothing() {
    let authority = Authority::start(|asked| directory(&asked.base)).await;
    let other = Authority::start(|asked| directory(&asked.base)).await;
    let https = Https::new(Some(&other.ca()), &authority.directory()).unwrap();
    let error = Directory::fetch(&https, &authority.directory()).await.unwrap_err().to_string();
    assert!(error.contains("localhost can't be reached") && error.contains("certificate"), "{error}");
}

#[test]
fn a_certificate_is_called_as_in_the_rfc() {
    // RFC 9773, section 4.1.
    let issuer_key = rcgen::KeyPair::generate().unwrap();
    let mut issuer = rcgen::CertificateParams::default();
    let identifier = data_encoding::HEXLOWER.decode(b"69885b6b87464041e1b37b847ba0ae2cde01c8d4").unwrap();
    issuer.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(identifier);
    let issuer = rcgen::Issuer::new(issuer, issuer_key);
    let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    parameters.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x00, 0x87, 0x65, 0x43, 0x21]));
    parameters.use_authority_key_identifier_extension = true;
    let made = parameters.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.pem()).unwrap();
    let chain = Chain::load(file.path()).unwrap();
    assert_eq!(certificate_id(&chain).as_deref(), Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
}

#[test]
fn a_chain_hangs_together_and_is_short() {
    let made = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    let (one, other) = (made("one.example"), made("other.example"));
    for (pem, fits) in [
        (one.clone(), true),
        (one.repeat(10), true),
        (one.repeat(11), false),
        (format!("{one}{other}"), false),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        assert_eq!(hangs_together(&Chain::load(file.path()).unwrap()).is_ok(), fits);
    }
}
