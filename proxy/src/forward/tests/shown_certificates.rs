//! Upstreams that ask for a certificate, whose key somebody else has.

use std::sync::Mutex;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{Signer, SigningKey};
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::Config;
use crate::keys::{KeyError, KeySource};
use crate::upstream::asked_server;

/// Signs as engines do: inside a fiber that waits, or not at all.
#[derive(Debug, Clone)]
struct Elsewhere {
    key: Arc<dyn SigningKey>,
    works: bool,
    /// Who asked.
    asked: Arc<Mutex<Vec<String>>>,
}

impl KeySource for Elsewhere {
    fn signing_key(&self, spki: &SubjectPublicKeyInfoDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError> {
        assert_eq!(Some(spki), self.key.public_key().as_ref());
        Ok(Arc::new(self.clone()))
    }
}

impl SigningKey for Elsewhere {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Signing { signer: self.key.choose_scheme(offered)?, by: self.clone() }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct Signing {
    signer: Box<dyn Signer>,
    by: Elsewhere,
}

impl Signer for Signing {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        handshake_fiber::wait(tokio::time::sleep(Duration::from_millis(1))) // an engine takes its time
            .map_err(|_| rustls::Error::General("this would block the worker".to_owned()))?;
        self.by.asked.lock().unwrap().push(asked_server().unwrap().to_string());
        if self.by.works {
            self.signer.sign(message)
        } else {
            Err(rustls::Error::General("no engine".to_owned()))
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}

/// An upstream that lets in who shows the certificate, and keys that lead to it with `works` in the engines.
struct Made {
    settings: String,
    keys: Elsewhere,
    _directory: tempfile::TempDir,
}

async fn upstream(version: &'static SupportedProtocolVersion, works: bool) -> Made {
    let directory = tempfile::tempdir().unwrap();
    let (server, client) = (
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap(),
        rcgen::generate_simple_self_signed(["proxy.test".to_owned()]).unwrap(),
    );
    let [ca, shown] = ["ca.pem", "shown.pem"].map(|name| directory.path().join(name));
    std::fs::write(&ca, server.cert.pem()).unwrap();
    std::fs::write(&shown, client.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::try_from(server.signing_key.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![server.cert.der().clone()];
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let (acceptor, expected) = (TlsAcceptor::from(Arc::new(config)), client.cert.der().clone());
    let address = serving(move |stream| {
        let (acceptor, expected) = (acceptor.clone(), expected.clone());
        async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            assert_eq!(tls.get_ref().1.peer_certificates().unwrap(), [expected]);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = tls.read_u8().await else { return };
                head.push(byte);
            }
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await.unwrap();
        }
    })
    .await;
    let settings = format!(
        "[[upstream]]\nname = \"a\"\nservers = [\"https://localhost:{}\"]\ntls-ca = {ca:?}\nclient-cert = {shown:?}\n",
        address.port()
    );
    let key = PrivateKeyDer::try_from(client.signing_key.serialize_der()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Made { settings, keys: Elsewhere { key, works, asked: Arc::default() }, _directory: directory }
}

async fn answer(made: &Made) -> String {
    let settings = Config::parse(&made.settings).unwrap().upstreams.remove(0);
    let group = ServerGroup::with_keys(&settings, Some(&made.keys), None).unwrap();
    let proxy = Proxy::to_group(group, &Timeouts::default(), &Limits::default());
    proxy.raw("GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n".to_owned()).await
}

#[test]
fn the_key_of_a_shown_certificate_signs_while_the_worker_goes_on() {
    on_worker(async {
        let made = upstream(&rustls::version::TLS13, true).await;
        let answer = answer(&made).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("one"), "{answer}");
        assert_eq!(*made.keys.asked.lock().unwrap(), ["localhost"]);
    });
}

#[test]
fn without_a_signature_or_tls13_the_upstream_is_not_reached() {
    on_worker(async {
        let made = upstream(&rustls::version::TLS13, false).await;
        let refused = answer(&made).await;
        assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
        let made = upstream(&rustls::version::TLS12, true).await;
        let refused = answer(&made).await;
        assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
        assert!(made.keys.asked.lock().unwrap().is_empty(), "nothing is signed for TLS 1.2");
    });
}

#[test]
fn an_upstream_with_a_certificate_needs_who_has_its_key() {
    on_worker(async {
        let made = upstream(&rustls::version::TLS13, true).await;
        let settings = Config::parse(&made.settings).unwrap().upstreams.remove(0);
        let error = ServerGroup::of(&settings, None).err().unwrap().to_string();
        assert!(error.contains("client-cert"), "{error}");
    });
}
