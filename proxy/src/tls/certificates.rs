use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;

/// The certificates of a site, of which each client gets the best that it can verify. None while the first one is ordered.
#[derive(Debug, Clone)]
pub struct Certificates(Box<[Arc<CertifiedKey>]>);

/// A certificate that no client would ever get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "every client that could verify this certificate gets another one of the site: its key is of the same kind"
)]
pub struct NeverChosen {
    /// Its place in the list that was given, from 0.
    pub at: usize,
}

impl Certificates {
    /// One certificate for everybody.
    pub fn one(certificate: Arc<CertifiedKey>) -> Self {
        Self(Box::new([certificate]))
    }

    /// None yet: one has been ordered.
    pub fn pending() -> Self {
        Self(Box::new([]))
    }

    /// Whether there is none yet.
    pub fn is_pending(&self) -> bool {
        self.0.is_empty()
    }

    /// Several, the best first; but RSA goes last, whose signatures cost the engines ten times as much.
    ///
    /// # Errors
    ///
    /// [`NeverChosen`] if one of them is of no use, and for no certificate at all.
    pub fn several(certificates: Vec<Arc<CertifiedKey>>) -> Result<Self, NeverChosen> {
        let mut ordered: Vec<_> = certificates.into_iter().enumerate().collect();
        ordered
            .sort_by_key(|(_, certificate)| certificate.key.algorithm() == rustls::SignatureAlgorithm::RSA);
        let mut verifiable = Vec::new();
        for (at, certificate) in &ordered {
            let more: Vec<_> = all_schemes()
                .filter(|scheme| !verifiable.contains(scheme) && signs(certificate, &[*scheme]))
                .collect();
            // A key that signs nothing is another one's affair.
            if more.is_empty() && all_schemes().any(|scheme| signs(certificate, &[scheme])) {
                return Err(NeverChosen { at: *at });
            }
            verifiable.extend(more);
        }
        if ordered.is_empty() {
            return Err(NeverChosen { at: 0 });
        }
        Ok(Self(ordered.into_iter().map(|(_, certificate)| certificate).collect()))
    }

    /// The first that a client can verify who offers these schemes, from which rustls has removed those that go with none of its
    /// cipher suites. If there is none, the first: rustls finds the right alert.
    pub(crate) fn for_client(&self, offered: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        match &*self.0 {
            [only] => Some(only),
            all => all.iter().find(|certificate| signs(certificate, offered)).or(all.first()),
        }
    }

    /// Whether a client of either would get the same certificate from the other.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.cert.first() == b.cert.first())
    }

    /// All of them, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        self.0.iter()
    }
}

fn signs(certificate: &CertifiedKey, offered: &[SignatureScheme]) -> bool {
    certificate.key.choose_scheme(offered).is_some()
}

fn all_schemes() -> impl Iterator<Item = SignatureScheme> {
    aws_lc_rs::default_provider().signature_verification_algorithms.mapping.iter().map(|(scheme, _)| *scheme)
}
