//! What the fiber is for: a whole rustls handshake, with a signature that has to be waited for.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use handshake_fiber::{Fiber, StackPool, wait};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    ClientConfig, NamedGroup, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme, version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A key whose signatures take a while, as those of another process do.
#[derive(Debug)]
struct SlowKey {
    key: Arc<dyn SigningKey>,
    delay: Duration,
}

#[derive(Debug)]
struct SlowSigner {
    signer: Box<dyn Signer>,
    delay: Duration,
}

impl SigningKey for SlowKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        Some(Box::new(SlowSigner { signer, delay: self.delay }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl Signer for SlowSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        wait(tokio::time::sleep(self.delay))
            .map_err(|_| rustls::Error::General("sign() was called outside of a fiber".into()))?;
        self.signer.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}

/// Server and client configurations for `localhost`; the key signs after `delay`.
fn configs(
    delay: Duration,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (TlsAcceptor, TlsConnector) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(cert.der().to_vec());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let certified = CertifiedKey::new(vec![certificate.clone()], Arc::new(SlowKey { key, delay }));
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn handshakes_wait_for_their_signatures_side_by_side_on_stacks_that_suffice() {
    for version in [&version::TLS13, &version::TLS12] {
        let (acceptor, connector) = configs(Duration::from_millis(20), &[version]);
        let stacks = StackPool::new(32);
        LocalSet::new()
            .run_until(async {
                let mut servers = Vec::new();
                let mut clients = Vec::new();
                for _ in 0..32 {
                    let (near, far) = tokio::io::duplex(16 * 1024);
                    let fiber = Fiber::new(&stacks, acceptor.accept(near)).unwrap();
                    servers.push(tokio::task::spawn_local(async move {
                        let mut stream = fiber.await?;
                        stream.write_all(b"signed elsewhere").await?;
                        stream.shutdown().await?;
                        let group = stream.get_ref().1.negotiated_key_exchange_group();
                        Ok::<_, io::Error>(group.map(SupportedKxGroup::name))
                    }));
                    clients.push(tokio::task::spawn_local({
                        let connector = connector.clone();
                        async move {
                            let mut stream = connector.connect(localhost(), far).await?;
                            let mut text = String::new();
                            stream.read_to_string(&mut text).await?;
                            Ok::<_, io::Error>(text)
                        }
                    }));
                }
                for client in clients {
                    assert_eq!(client.await.unwrap().unwrap(), "signed elsewhere");
                }
                for server in servers {
                    let group = server.await.unwrap().unwrap();
                    if version.version == rustls::ProtocolVersion::TLSv1_3 {
                        assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
                    }
                }
            })
            .await;
        assert_eq!(stacks.idle(), 32);
        let deepest = deepest_stack_kib();
        println!("the deepest stack is {deepest} KiB");
        assert!(
            (4..=96).contains(&deepest),
            "{deepest} KiB of {} were touched",
            StackPool::STACK_SIZE / 1024
        );
    }
}

/// The most that was touched of any mapping that is as large as a fiber's stack and has a guard page below it, unlike what
/// an allocator maps for other tests of this process.
fn deepest_stack_kib() -> u64 {
    let kib = |line: &str| line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut is_forbidden, mut is_above_guard, mut is_stack, mut deepest) = (false, false, false, 0);
    for line in smaps.lines() {
        if let Some(permissions) =
            line.split(' ').nth(1).filter(|word| word.len() == 4 && word.ends_with('p'))
        {
            is_above_guard = is_forbidden;
            is_forbidden = permissions == "---p";
        } else if line.starts_with("Size:") {
            is_stack = is_above_guard && kib(line) * 1024 == StackPool::STACK_SIZE as u64;
            is_forbidden &= kib(line) < 64;
        } else if line.starts_with("Rss:") && is_stack {
            deepest = deepest.max(kib(line));
        }
    }
    deepest
}

#[tokio::test(start_paused = true)]
async fn handshakes_whose_signature_never_comes_are_cancelled_without_a_trace() {
    let (acceptor, connector) = configs(Duration::from_secs(3600), &[&version::TLS13]);
    let stacks = StackPool::new(4);
    for _ in 0..200 {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let fiber = Fiber::new(&stacks, acceptor.accept(near)).unwrap();
        let server = tokio::time::timeout(Duration::from_millis(30), fiber);
        let (server, client) = tokio::join!(server, connector.connect(localhost(), far));
        assert!(server.is_err(), "no signature, no handshake");
        assert!(client.is_err(), "the server hung up");
    }
    assert_eq!(stacks.idle(), 1);
}
