//! TLS for clients on other machines: version 1.3, certificates on both sides, nothing resumed.
//!
//! The engine shows the cluster's certificate, whose key signs inside the engine, and lets in whoever has a certificate for client
//! authentication of the same trust anchor (RFC 5280, by webpki).

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use keycore_engine::{CertificateSha256, ClusterIdentity};
use mio::net::TcpStream;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme};

/// What the engine is on the network: the cluster's certificate, and the way to its key.
pub(crate) trait NetworkIdentity: Send + Sync {
    /// Another one means another certificate.
    fn revision(&self) -> u64;
    /// The certificate and those above it, in DER.
    fn chain(&self) -> &[Vec<u8>];
    /// The CA's certificate, in DER.
    fn trust_anchor(&self) -> &[u8];
    /// ECDSA on P-256 with SHA-256, in DER; none if the library failed.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;
}

impl NetworkIdentity for ClusterIdentity {
    fn revision(&self) -> u64 {
        self.revision()
    }

    fn chain(&self) -> &[Vec<u8>] {
        self.certificate_chain()
    }

    fn trust_anchor(&self) -> &[u8] {
        self.trust_anchor()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.sign(message).ok()
    }
}

/// The cluster's certificate is none that TLS can be spoken with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    #[error("the trust anchor: {0}")]
    Anchor(#[from] VerifierBuilderError),
}

/// What new connections are spoken to with, as of the identity's last change.
#[derive(Default)]
pub(crate) struct Credentials(Option<(u64, Arc<ServerConfig>)>);

impl Credentials {
    /// The configuration for a new connection; none while the cluster has no certificate.
    pub(crate) fn current(
        &mut self,
        identity: Option<Arc<dyn NetworkIdentity>>,
    ) -> Result<Option<Arc<ServerConfig>>, Unusable> {
        let Some(identity) = identity else {
            self.0 = None;
            return Ok(None);
        };
        let revision = identity.revision();
        if let Some((known, config)) = &self.0
            && *known == revision
        {
            return Ok(Some(Arc::clone(config)));
        }
        let config = Arc::new(server_config(identity)?);
        self.0 = Some((revision, Arc::clone(&config)));
        tracing::info!(revision, "the cluster's certificate is used for new connections");
        Ok(Some(config))
    }
}

fn server_config(identity: Arc<dyn NetworkIdentity>) -> Result<ServerConfig, Unusable> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut anchors = RootCertStore::empty();
    anchors.add(CertificateDer::from(identity.trust_anchor().to_vec()))?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&provider)).build()?;
    let chain = identity.chain().iter().cloned().map(CertificateDer::from).collect();
    let key = CertifiedKey::new(chain, Arc::new(IdentityKey(identity)));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    // Whoever comes again is checked again: no trust outlives the anchor.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The identity's key, in the words of rustls.
#[derive(Clone)]
struct IdentityKey(Arc<dyn NetworkIdentity>);

impl SigningKey for IdentityKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256).then(|| Box::new(self.clone()) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for IdentityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).ok_or_else(|| rustls::Error::General("the identity key can't sign".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(..)")
    }
}

/// A TCP connection with TLS on it. Nothing in it blocks.
pub(crate) struct TlsStream {
    socket: TcpStream,
    tls: ServerConnection,
}

impl TlsStream {
    /// Reads in one go, for a peer that sends byte by byte or records with nothing in them.
    const READS: usize = 8;

    pub(crate) fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self { socket, tls: ServerConnection::new(config)? })
    }

    /// What an event loop registers.
    pub(crate) fn source(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Shakes hands as far as it goes. Returns whether that is done; `Interrupted` if there is more to do at once.
    pub(crate) fn shake_hands(&mut self) -> io::Result<bool> {
        for _ in 0..Self::READS {
            self.push()?;
            if !self.tls.is_handshaking() {
                return Ok(true);
            }
            match self.pull() {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Which certificate the client has shown.
    pub(crate) fn certificate(&self) -> Option<CertificateSha256> {
        let der = self.tls.peer_certificates()?.first()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        digest.as_ref().try_into().ok().map(CertificateSha256)
    }

    /// Whether encrypted bytes wait for room in the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Takes what is to be encrypted, 64 KiB at most until it is pushed.
    pub(crate) fn writer(&mut self) -> impl Write {
        self.tls.writer()
    }

    /// Writes what is encrypted, as far as the socket has room. Returns whether it had some.
    pub(crate) fn push(&mut self) -> io::Result<bool> {
        let mut progress = false;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => progress = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(progress)
    }

    /// Says that nothing more comes, if there is room for that.
    pub(crate) fn close(&mut self) {
        self.tls.send_close_notify();
        let _gone = self.push();
    }

    /// Reads once from the socket. A peer that breaks the protocol is told so.
    fn pull(&mut self) -> io::Result<usize> {
        let count = self.tls.read_tls(&mut self.socket)?;
        if let Err(error) = self.tls.process_new_packets() {
            let _gone = self.push();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }
}

impl Read for TlsStream {
    /// What the peer has sent. 0 at the end, also at one that was cut off: frames tell whether they are whole.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..Self::READS {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            self.pull()?;
        }
        Err(ErrorKind::Interrupted.into())
    }
}
