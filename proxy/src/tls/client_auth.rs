//! Certificates of clients: whether they are asked for, and which are accepted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::aws_lc_rs::digest::{Context, SHA256};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

/// Whether a site's clients have to have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// Without an accepted one the handshake fails.
    Require,
    /// They are asked for one, and may have none; one that is not accepted fails.
    Request,
}

/// Which certificates of clients a site accepts.
#[derive(Clone)]
pub struct ClientCertificates {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Of everything that decides. Two are the same if this is.
    digest: [u8; 32],
}

/// What a site says of its clients' certificates can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientAuthError {
    /// A file can't be read, or is not PEM.
    #[error("{}: {reason}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why, in one line.
        reason: String,
    },
    /// They don't go together: a CRL whose issuer is not there, for one.
    #[error("client-ca, client-crl: {0}")]
    Verifier(String),
}

impl ClientCertificates {
    /// Reads trust anchors, and revocation lists of all issuers below them if there are any lists.
    ///
    /// # Errors
    ///
    /// [`ClientAuthError`].
    pub(crate) fn load(auth: ClientAuth, anchors: &Path, lists: &[PathBuf]) -> Result<Self, ClientAuthError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut digest = Context::new(&SHA256);
        digest.update(match auth {
            ClientAuth::Require => b"require",
            ClientAuth::Request => b"request",
        });
        let mut roots = RootCertStore::empty();
        for anchor in read::<CertificateDer<'static>>(anchors)? {
            feed(&mut digest, &anchor);
            let added = roots.add(anchor);
            added.map_err(|error| ClientAuthError::File {
                path: anchors.to_owned(),
                reason: error.to_string(),
            })?;
        }
        let mut revoked = Vec::new();
        for path in lists {
            for list in read::<CertificateRevocationListDer<'static>>(path)? {
                feed(&mut digest, &list);
                revoked.push(list);
            }
        }
        let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if !revoked.is_empty() {
            // A certificate whose issuer has no list, or only an outdated one, is not accepted: whoever gives lists wants
            // to know.
            verifier = verifier.with_crls(revoked).enforce_revocation_expiration();
        }
        if auth == ClientAuth::Request {
            verifier = verifier.allow_unauthenticated();
        }
        let verifier = verifier.build().map_err(|error| ClientAuthError::Verifier(error.to_string()))?;
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.finish().as_ref());
        Ok(Self { verifier, digest: bytes })
    }

    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// All sections of one kind in a PEM file; there is at least one.
fn read<T: PemObject>(path: &Path) -> Result<Vec<T>, ClientAuthError> {
    let failed = |reason: String| ClientAuthError::File { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let sections: Result<Vec<T>, _> = T::pem_slice_iter(&pem).collect();
    let sections = sections.map_err(|error| failed(format!("not a PEM file: {error}")))?;
    if sections.is_empty() {
        return Err(failed("there is nothing of the kind that is needed in it".to_owned()));
    }
    Ok(sections)
}

fn feed(digest: &mut Context, der: &[u8]) {
    digest.update(&(der.len() as u64).to_be_bytes());
    digest.update(der);
}

impl PartialEq for ClientCertificates {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ClientCertificates {}

impl std::hash::Hash for ClientCertificates {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificates(…)")
    }
}
