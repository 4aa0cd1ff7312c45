//! A TLS server inside the test, well-behaved or not.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{HandshakeKind, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{Extent, Load, Target, TargetOptions};

/// How it treats a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// Handshakes, answers a request with this status, closes after the client did.
    Good(u16),
    /// The same with a certificate that is self-signed, and a CA's, as `openssl req -x509` makes them.
    SelfSigned,
    /// Good, but gives no tickets and keeps no sessions.
    Forgets,
    /// Signs with another key than that of its certificate.
    SignsWrongly,
    /// Has no certificate for anybody: a fatal alert.
    Refuses,
    /// Accepts and says nothing.
    Silent,
    /// Accepts and closes.
    Closes,
}

/// Listens on a port of its own until dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    directory: TempDir,
    seen: Arc<Seen>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

#[derive(Default)]
struct Seen {
    full: AtomicU64,
    resumed: AtomicU64,
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl TestServer {
    pub(crate) fn start(manner: Manner) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = server_config(&directory, manner);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let counts = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = listen(listener, acceptor, manner, counts) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, directory, seen, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Full and resumed handshakes that the server saw complete.
    pub(crate) fn seen(&self) -> (u64, u64) {
        (self.seen.full.load(Ordering::SeqCst), self.seen.resumed.load(Ordering::SeqCst))
    }

    pub(crate) fn options(&self) -> TargetOptions {
        TargetOptions {
            connect: self.address.to_string(),
            ca: self.ca(),
            server_name: "localhost".to_owned(),
            numbers: None,
            skip: 0,
            version: None,
            key_exchange: None,
            resume: false,
            request: false,
            verify_one_in: NonZeroU32::MIN,
        }
    }

    pub(crate) fn load(&self, extent: Extent) -> Load {
        load(&self.options(), extent)
    }
}

pub(crate) fn load(options: &TargetOptions, extent: Extent) -> Load {
    Load {
        target: Target::new(options).unwrap(),
        extent,
        rate: None,
        concurrency: 8,
        threads: 1,
        timeout: Duration::from_secs(10),
    }
}

fn server_config(directory: &TempDir, manner: Manner) -> ServerConfig {
    let mut ca = CertificateParams::new(["localhost".to_owned()]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let builder = ServerConfig::builder().with_no_client_auth();
    if manner == Manner::Refuses {
        return builder.with_cert_resolver(Arc::new(NoCertificate));
    }
    if manner == Manner::SelfSigned {
        let key = PrivateKeyDer::try_from(ca.key().serialize_der()).unwrap();
        return builder.with_single_cert(vec![ca.der().clone()], key).unwrap();
    }
    if manner == Manner::SignsWrongly {
        let other = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
        let other = builder.crypto_provider().key_provider.load_private_key(other).unwrap();
        // Nobody looks whether the key is the certificate's.
        let wrong = CertifiedKey::new(vec![leaf.der().clone()], other);
        return builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(wrong)));
    }
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![leaf.der().clone()], key).unwrap();
    if manner == Manner::Forgets {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    }
    config
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, manner: Manner, seen: Arc<Seen>) {
    let mut silent = Vec::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        match manner {
            Manner::Silent => silent.push(tcp),
            Manner::Closes => drop(tcp),
            Manner::Refuses => drop(tokio::spawn(serve(tcp, acceptor.clone(), 0, Arc::clone(&seen)))),
            Manner::SelfSigned | Manner::Forgets | Manner::SignsWrongly => {
                drop(tokio::spawn(serve(tcp, acceptor.clone(), 200, Arc::clone(&seen))));
            }
            Manner::Good(status) => {
                drop(tokio::spawn(serve(tcp, acceptor.clone(), status, Arc::clone(&seen))));
            }
        }
    }
}

async fn serve(tcp: TcpStream, acceptor: TlsAcceptor, status: u16, seen: Arc<Seen>) {
    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
    let count = match tls.get_ref().1.handshake_kind() {
        Some(HandshakeKind::Resumed) => &seen.resumed,
        _ => &seen.full,
    };
    count.fetch_add(1, Ordering::SeqCst);
    let mut request = [0; 4096];
    if matches!(tls.read(&mut request).await, Ok(read) if read > 0) {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        let _client_left = tls.write_all(answer.as_bytes()).await;
    }
    let _client_left = tls.shutdown().await;
}
