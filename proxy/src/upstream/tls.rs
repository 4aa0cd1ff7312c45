//! TLS to upstreams: their certificates are verified, always.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, pem};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::shown;
use crate::chain::ChainError;
use crate::keys::KeyError;

/// Sessions that are kept for resumption with one server.
const SESSIONS: usize = 32;

/// How TLS is spoken to the servers of one upstream.
pub(super) struct ClientTls {
    /// HTTP/2 if the server has it.
    either: Arc<ClientConfig>,
    /// For what HTTP/2 can't do.
    http1: Arc<ClientConfig>,
    /// The name that certificates must have, and that is asked for; the URL's host if absent.
    name: Option<ServerName<'static>>,
    /// The servers are shown a certificate, whose key an engine has.
    signs: bool,
    /// What it was made from.
    source: [u8; 32],
}

/// The servers' certificates can't be verified, or ours not be shown.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of trust anchors can't be read.
    #[error("can't read {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no PEM file of certificates.
    #[error("{} has no trust anchors in PEM", .0.display())]
    NoAnchors(PathBuf),
    /// The system has no trust anchors.
    #[error(
        "the system has no trust anchors (package ca-certificates): name some with tls-ca, acme.ca or traces.ca"
    )]
    NoSystemAnchors,
    /// The certificate that servers are shown can't be used.
    #[error("client-cert: {0}")]
    Chain(#[from] ChainError),
    /// Its key is none that engines have.
    #[error("client-cert: {0}")]
    Key(#[from] KeyError),
    /// There is nobody who has keys.
    #[error("client-cert: its key is in the engines, and there are none here")]
    NoKeys,
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl ClientTls {
    /// Trusts the anchors in the file `ca`, or the system's. With a certificate to be shown, in TLS 1.3 only: engines sign nothing
    /// else for clients.
    pub(super) fn new(
        ca: Option<&Path>,
        name: Option<ServerName<'static>>,
        shown: Option<Arc<CertifiedKey>>,
    ) -> Result<Self, TrustError> {
        Self::trusting(certificates(ca)?, name, shown)?.ok_or_else(|| none(ca))
    }

    /// `None` if none of these is an anchor.
    fn trusting(
        mut anchors: Vec<CertificateDer<'static>>,
        name: Option<ServerName<'static>>,
        shown: Option<Arc<CertifiedKey>>,
    ) -> Result<Option<Self>, TrustError> {
        // In whatever order a directory has them: it is the same trust.
        anchors.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        let mut source = format!("{name:?}").into_bytes();
        anchors.iter().for_each(|anchor| source.extend_from_slice(digest(&SHA256, anchor).as_ref()));
        let mut roots = RootCertStore::empty();
        // What can't be parsed is no anchor; the others are.
        roots.add_parsable_certificates(anchors);
        if roots.is_empty() {
            return Ok(None);
        }
        let provider: Arc<CryptoProvider> = Arc::new(provider::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let (signs, mut config) = match shown {
            None => {
                let builder = builder.with_safe_default_protocol_versions()?;
                (false, builder.with_root_certificates(roots).with_no_client_auth())
            }
            Some(shown) => {
                source.push(0);
                for certificate in &shown.cert {
                    source.extend_from_slice(digest(&SHA256, certificate).as_ref());
                }
                let builder = builder.with_protocol_versions(&[&TLS13])?.with_root_certificates(roots);
                (true, builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))))
            }
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &source).as_ref());
        Ok(Some(Self { either: Arc::new(config), http1, name, signs, source: hash }))
    }

    /// Makes the handshake with the server that the URL calls `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
        only_http1: bool,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                ServerName::try_from(host).map_err(io::Error::other)?
            }
        };
        let config = if only_http1 { &self.http1 } else { &self.either };
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        if self.signs { shown::in_fibers(Box::pin(handshake), host.into()).await? } else { handshake.await }
    }
}

/// The anchors in the file `ca`, or the system's.
///
/// # Errors
///
/// [`TrustError`] if there is none.
pub(crate) fn trust_anchors(ca: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // What can't be parsed is no anchor; the others are.
    roots.add_parsable_certificates(certificates(ca)?);
    if roots.is_empty() { Err(none(ca)) } else { Ok(roots) }
}

fn certificates(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let Some(path) = ca else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let text = std::fs::read(path).map_err(|source| TrustError::File { path: path.to_owned(), source })?;
    let anchors: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    anchors.map_err(|_| TrustError::NoAnchors(path.to_owned()))
}

fn none(ca: Option<&Path>) -> TrustError {
    match ca {
        Some(path) => TrustError::NoAnchors(path.to_owned()),
        None => TrustError::NoSystemAnchors,
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_as_long_as_the_same_anchors_are_trusted_wherever_they_come_from() {
        let [one, other] = ["one.test", "other.test"].map(|name| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            made.cert.der().clone()
        });
        let name = || Some(ServerName::try_from("a.test").unwrap());
        let trusting = |anchors: &[&CertificateDer<'static>], name| {
            let anchors = anchors.iter().map(|&anchor| anchor.clone()).collect();
            ClientTls::trusting(anchors, name, None).unwrap().unwrap()
        };
        let before = trusting(&[&one, &other], None);
        assert!(before == trusting(&[&other, &one], None));
        assert!(before != trusting(&[&one], None), "one was taken out of the system's");
        assert!(before != trusting(&[&one, &other], name()));
        assert!(trusting(&[&one], name()) == trusting(&[&one], name()));
        assert!(ClientTls::trusting(vec![CertificateDer::from(vec![1])], None, None).unwrap().is_none());
    }
}
