//! Against an authority in this process, for what Debian's pebble does not have: advice on renewal, and refusals with a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use time::macros::datetime;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::account::Directory;
use super::https::Https;
use super::renewal::{Window, certificate_id};
use super::site::hangs_together;
use crate::chain::Chain;
use crate::config::AcmeUrl;

struct Authority {
    files: tempfile::TempDir,
    url: String,
}

impl Authority {
    /// Answers each path as `answer` does: a status, fields, a body.
    async fn start(
        answer: impl Fn(&str, &str) -> (StatusCode, Vec<(&'static str, String)>, String) + Send + Sync + 'static,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (answer, base) = (Arc::new(answer), url.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, answer, base) = (acceptor.clone(), Arc::clone(&answer), base.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (status, fields, body) = answer(&base, request.uri().path());
                        let mut response = Response::new(Full::new(Bytes::from(body)));
                        *response.status_mut() = status;
                        for (name, value) in fields {
                            response.headers_mut().insert(name, value.parse().unwrap());
                        }
                        async { Ok::<_, std::convert::Infallible>(response) }
                    });
                    let _ended = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { files, url }
    }

    fn https(&self) -> Https {
        Https::new(Some(&self.files.path().join("ca.pem"))).unwrap()
    }

    fn directory(&self) -> AcmeUrl {
        format!("{}/directory", self.url).parse().unwrap()
    }
}

fn directory(base: &str) -> String {
    serde_json::json!({
        "newNonce": format!("{base}/nonce"),
        "newAccount": format!("{base}/account"),
        "newOrder": format!("{base}/order"),
        "renewalInfo": format!("{base}/renewal/"),
        "meta": { "website": base },
    })
    .to_string()
}

#[tokio::test]
async fn an_authority_is_asked_when_to_renew_and_for_how_long_that_holds() {
    let authority = Authority::start(|base, path| match path {
        "/directory" => (StatusCode::OK, Vec::new(), directory(base)),
        "/renewal/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" => (
            StatusCode::OK,
            vec![("retry-after", "7200".to_owned())],
            r#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00Z"},"explanationURL":"https://x"}"#
                .to_owned(),
        ),
        _ => (
            StatusCode::TOO_MANY_REQUESTS,
            vec![("retry-after", "90".to_owned())],
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#.to_owned(),
        ),
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
    let authority = Authority::start(|base, _| (StatusCode::OK, Vec::new(), directory(base))).await;
    let other = Authority::start(|base, _| (StatusCode::OK, Vec::new(), directory(base))).await;
    let error = Directory::fetch(&other.https(), &authority.directory()).await.unwrap_err().to_string();
    assert!(error.contains("localhost can't be reached") && error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let authority = Authority::start(|_, _| (StatusCode::OK, Vec::new(), " ".repeat(2 * 1024 * 1024))).await;
    let error = Directory::fetch(&authority.https(), &authority.directory()).await.unwrap_err().to_string();
    assert!(error.contains("length limit"), "{error}");
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
