use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;

use crate::certificate_directory::CertificateLookup;

/// The certificates of a site, of which each client gets the best that it can verify. None while the first one is ordered.
#[derive(Debug, Clone)]
pub struct Certificates {
    served: Box<[Served]>,
    /// Where they are looked up instead, by name.
    lookup: Option<Arc<dyn CertificateLookup>>,
}

/// A certificate, and what is stapled to it.
#[derive(Debug, Clone)]
struct Served {
    certificate: Arc<CertifiedKey>,
    stapled: Option<Arc<Stapled>>,
}

/// A certificate with an OCSP response.
#[derive(Debug)]
struct Stapled {
    certificate: Arc<CertifiedKey>,
    /// When the response ends.
    until: SystemTime,
    file: Box<Path>,
    complained: AtomicBool,
}

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
        Self { served: Box::new([Served { certificate, stapled: None }]), lookup: None }
    }

    /// None yet: one has been ordered.
    pub fn pending() -> Self {
        Self { served: Box::new([]), lookup: None }
    }

    /// Another one for each name.
    pub(crate) fn looked_up(lookup: Arc<dyn CertificateLookup>) -> Self {
        Self { served: Box::new([]), lookup: Some(lookup) }
    }

    /// Where each name's is looked up; `None` if all names have the same.
    pub(crate) fn lookup(&self) -> Option<&dyn CertificateLookup> {
        self.lookup.as_deref()
    }

    /// Whether there is none yet.
    pub fn is_pending(&self) -> bool {
        self.served.is_empty() && self.lookup.is_none()
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
        let served = ordered.into_iter().map(|(_, certificate)| Served { certificate, stapled: None });
        Ok(Self { served: served.collect(), lookup: None })
    }

    /// The first that a client can verify who offers these schemes, from which rustls has removed those that go with none of its
    /// cipher suites. If there is none, the first: rustls finds the right alert.
    pub(crate) fn for_client(&self, offered: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let chosen = match &*self.served {
            [only] => Some(only),
            all => all.iter().find(|served| signs(&served.certificate, offered)).or(all.first()),
        };
        chosen.map(Served::now)
    }

    /// Staples an OCSP response, from a file, to each certificate for which `good_until` says until when it is good. Returns
    /// the soonest such end; the reason that counts most if it is good for none of them.
    pub(crate) fn staple<E>(
        &mut self,
        response: &[u8],
        file: &Path,
        good_until: impl Fn(&CertifiedKey) -> Result<SystemTime, E>,
        is_of_another: impl Fn(&E) -> bool,
    ) -> Result<SystemTime, Option<E>> {
        let (mut soonest, mut reason) = (None, None);
        for served in &mut self.served {
            match good_until(&served.certificate) {
                Ok(until) => {
                    let mut stapled = CertifiedKey::clone(&served.certificate);
                    stapled.ocsp = Some(response.to_vec());
                    served.stapled = Some(Arc::new(Stapled {
                        certificate: Arc::new(stapled),
                        until,
                        file: file.into(),
                        complained: AtomicBool::new(false),
                    }));
                    soonest = Some(soonest.map_or(until, |end: SystemTime| end.min(until)));
                }
                Err(error) if reason.is_none() || !is_of_another(&error) => reason = Some(error),
                Err(_) => {}
            }
        }
        soonest.ok_or(reason)
    }

    /// Whether a client of either would get the same certificate from the other.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.lookup.is_none()
            && other.lookup.is_none()
            && self.served.len() == other.served.len()
            && self
                .served
                .iter()
                .zip(&other.served)
                .all(|(a, b)| a.certificate.cert.first() == b.certificate.cert.first())
    }

    /// All of them, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        self.served.iter().map(|served| &served.certificate)
    }
}

impl Served {
    /// With its response, as long as that is good.
    fn now(&self) -> &Arc<CertifiedKey> {
        let Some(stapled) = &self.stapled else { return &self.certificate };
        if SystemTime::now() < stapled.until {
            return &stapled.certificate;
        }
        if !stapled.complained.swap(true, Relaxed) {
            let file = stapled.file.display();
            tracing::warn!(%file, "an OCSP response has ended and is stapled no more: a new one is needed");
        }
        &self.certificate
    }
}

fn signs(certificate: &CertifiedKey, offered: &[SignatureScheme]) -> bool {
    certificate.key.choose_scheme(offered).is_some()
}

fn all_schemes() -> impl Iterator<Item = SignatureScheme> {
    aws_lc_rs::default_provider().signature_verification_algorithms.mapping.iter().map(|(scheme, _)| *scheme)
}
