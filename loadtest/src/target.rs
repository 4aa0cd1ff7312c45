//! What is measured: an address, whom to trust, how to speak TLS.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use crate::names::{Numbers, ServerNames};
use crate::trust::Trust;

/// Servers whose tickets a client keeps; there is one.
const SERVERS: usize = 1;

/// A TLS server, and how its handshakes are made. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) server_names: ServerNames,
    pub(crate) connector: TlsConnector,
    /// Whether every handshake but a client's first must resume a session.
    pub(crate) resume: bool,
    /// Whether to make an HTTP request on each connection.
    pub(crate) request: bool,
    /// One signature in so many is verified.
    pub(crate) verify_one_in: u32,
}

/// What [`Target::new`] needs to know.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// `host:port` or `address:port`; resolved once.
    pub connect: String,
    /// PEM file of the certificates that are trusted, as issuers and themselves; nothing else is.
    pub ca: PathBuf,
    /// The name that is asked for (SNI) and that the certificate must have.
    pub server_name: String,
    /// If there are any, the name has `{}` where each handshake puts the next of these: each once before any a second time.
    pub numbers: Option<Numbers>,
    /// So many of the numbered names are passed over: those that a run before has asked for.
    pub skip: u64,
    /// The only version to offer; all that are supported, if none.
    pub version: Option<TlsVersion>,
    /// The only key exchange group to offer; rustls' own choice, X25519MLKEM768 first, if none.
    pub key_exchange: Option<KeyExchange>,
    /// Whether to resume sessions, which needs one name for all: each client makes one full handshake, and all others by the ticket of the one before.
    pub resume: bool,
    /// Whether to `GET /` on each connection.
    pub request: bool,
    /// The signature of one handshake in so many is verified; those of the others are taken on trust, so that a client that has no more
    /// than a server can keep it busy.
    pub verify_one_in: NonZeroU32,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TlsVersion {
    /// RFC 5246.
    #[value(help = None::<&'static str>, name = "1.2")]
    V12,
    /// RFC 8446.
    #[value(help = None::<&'static str>, name = "1.3")]
    V13,
}

/// A key exchange group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum KeyExchange {
    /// RFC 7748.
    #[value(help = None::<&'static str>)]
    X25519,
    /// NIST P-256.
    #[value(help = None::<&'static str>)]
    Secp256r1,
    /// NIST P-384.
    #[value(help = None::<&'static str>)]
    Secp384r1,
    /// The post-quantum hybrid.
    #[value(help = None::<&'static str>)]
    X25519Mlkem768,
}

impl Target {
    /// Resolves the address, reads the certificates and prepares a client.
    ///
    /// # Errors
    ///
    /// If one of these can't be done; the error says which and what to do about it.
    pub fn new(options: &TargetOptions) -> Result<Self, TargetError> {
        let server_names = ServerNames::new(&options.server_name, options.numbers.as_ref(), options.skip)?;
        let provider = Arc::new(provider(options.key_exchange));
        let trust = trusted(&options.ca, &provider, options.verify_one_in)?;
        let config = client_config(provider, trust, options.version).map_err(TargetError::Tls)?;
        Ok(Self {
            address: resolve(&options.connect)?,
            server_names,
            connector: TlsConnector::from(Arc::new(config)),
            resume: options.resume,
            request: options.request,
            verify_one_in: options.verify_one_in.get(),
        })
    }

    /// One client more of the same kind: with tickets of its own, if it resumes at all.
    pub(crate) fn another_client(&self) -> Self {
        let mut target = self.clone();
        if self.resume {
            let mut config = ClientConfig::clone(self.connector.config());
            config.resumption = Resumption::in_memory_sessions(SERVERS);
            target.connector = TlsConnector::from(Arc::new(config));
        }
        target
    }

    /// Has the source of random numbers seed itself, once for the process: that takes 30 ms of measuring the jitter of the processor,
    /// for which no server is to blame.
    pub(crate) fn warm_up(&self) {
        let random = self.connector.config().crypto_provider().secure_random;
        // Where it fails, handshakes will, and say so.
        let _ = random.fill(&mut [0; 32]);
    }

    /// Where it connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn resolve(connect: &str) -> Result<SocketAddr, TargetError> {
    let failed = |source| TargetError::Address { connect: connect.to_owned(), source };
    connect
        .to_socket_addrs()
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

fn trusted(
    ca: &Path,
    provider: &Arc<CryptoProvider>,
    verify_one_in: NonZeroU32,
) -> Result<Trust, TargetError> {
    let failed = |source| TargetError::Ca { path: ca.to_owned(), source };
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(failed)? {
        certificates.push(certificate.map_err(failed)?);
    }
    if certificates.is_empty() {
        return Err(TargetError::NoCertificate(ca.to_owned()));
    }
    Trust::new(certificates, provider, verify_one_in)
        .map_err(|source| TargetError::Certificate { path: ca.to_owned(), source })
}

fn provider(key_exchange: Option<KeyExchange>) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(group) = key_exchange {
        provider.kx_groups = vec![group.group()];
    }
    provider
}

fn client_config(
    provider: Arc<CryptoProvider>,
    trust: Trust,
    version: Option<TlsVersion>,
) -> Result<ClientConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match version {
        Some(TlsVersion::V12) => &[&rustls::version::TLS12],
        Some(TlsVersion::V13) => &[&rustls::version::TLS13],
        None => rustls::ALL_VERSIONS,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl KeyExchange {
    fn group(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519 => aws_lc_rs::kx_group::X25519,
            Self::Secp256r1 => aws_lc_rs::kx_group::SECP256R1,
            Self::Secp384r1 => aws_lc_rs::kx_group::SECP384R1,
            Self::X25519Mlkem768 => aws_lc_rs::kx_group::X25519MLKEM768,
        }
    }
}

/// Why there is nothing to measure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// `--connect` names no address.
    #[error("--connect {connect}: {source}; write host:port")]
    Address {
        /// What was given.
        connect: String,
        /// Why it can't be resolved.
        source: io::Error,
    },
    /// The CA file can't be read.
    #[error("--ca {}: {source}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The CA file holds a certificate that can't be a trust anchor.
    #[error("--ca {}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The CA file holds no certificate.
    #[error("--ca {}: it holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// The name can't be in a certificate.
    #[error("--server-name {0}: not a host name or an IP address")]
    ServerName(String),
    /// Numbers need one place in the name.
    #[error("--server-name {0}: with --numbers, write {{}} once where each number shall stand")]
    Pattern(String),
    /// The TLS client refuses this combination.
    #[error("TLS can't be set up so: {0}")]
    Tls(rustls::Error),
}
