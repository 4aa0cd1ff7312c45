use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use crate::certificate::parse;
use crate::key::{RemoteKey, SubjectKey};
use crate::profile::{CaProfile, ClientProfile, ServerProfile, Validity};
use crate::{Certificate, Error};

/// A CA whose key is in the engine: its certificate and the way to its signatures.
pub struct Issuer<'k, 's> {
    chain: Certificate,
    key: &'k RemoteKey<'s>,
    path_length: Option<u32>,
}

impl<'k, 's> Issuer<'k, 's> {
    /// Puts a CA's certificate and its key together. `pem` is the CA's certificate, followed by those above it if
    /// it is an intermediate; the root may be there or not.
    ///
    /// # Errors
    ///
    /// [`Error::NotACa`], [`Error::KeyMismatch`], [`Error::TlsBound`], [`Error::NoPem`], [`Error::Unreadable`].
    pub fn new(pem: &[u8], key: &'k RemoteKey<'s>) -> Result<Self, Error> {
        let chain = Certificate::from_pem(pem)?;
        let path_length = require_ca(&parse(chain.der())?)?;
        key.require_certifying()?;
        chain.require_key(key)?;
        Ok(Self { chain, key, path_length })
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.chain
    }

    /// Certifies a TLS server's key. It is not valid earlier than the CA's certificate.
    ///
    /// # Errors
    ///
    /// [`Error::OutlivesIssuer`] if it would be valid for longer, [`Error::Engine`].
    pub fn issue(&self, subject: &SubjectKey, profile: &ServerProfile) -> Result<Certificate, Error> {
        let validity = self.fit(profile.validity)?;
        self.sign(subject, || profile.to_rcgen(validity))
    }

    /// Certifies a TLS client's key. It is not valid earlier than the CA's certificate.
    ///
    /// # Errors
    ///
    /// [`Error::OutlivesIssuer`] if it would be valid for longer, [`Error::Engine`].
    pub fn issue_client(&self, subject: &SubjectKey, profile: &ClientProfile) -> Result<Certificate, Error> {
        let validity = self.fit(profile.validity)?;
        self.sign(subject, || profile.to_rcgen(validity))
    }

    /// Certifies the key of a CA below this one. Without a path length in the profile it gets one less than this
    /// CA's, if that has one.
    ///
    /// # Errors
    ///
    /// [`Error::PathLength`], [`Error::OutlivesIssuer`], [`Error::Engine`].
    pub fn intermediate_ca(&self, subject: &SubjectKey, profile: &CaProfile) -> Result<Certificate, Error> {
        let validity = self.fit(profile.validity)?;
        let path_length = match (self.path_length, profile.path_length) {
            (None, wanted) => wanted,
            (Some(issuer), None) if issuer > 0 => Some(u8::try_from(issuer - 1).unwrap_or(u8::MAX)),
            (Some(issuer), Some(wanted)) if u32::from(wanted) < issuer => Some(wanted),
            (Some(issuer), _) => return Err(Error::PathLength { issuer }),
        };
        self.sign(subject, || profile.to_rcgen(path_length, validity))
    }

    fn fit(&self, validity: Validity) -> Result<Validity, Error> {
        let own = parse(self.chain.der())?;
        let issuer_ends = own.validity().not_after.to_datetime();
        if validity.not_after() > issuer_ends {
            return Err(Error::OutlivesIssuer { issuer_ends });
        }
        Ok(validity.not_before_that_of(own.validity().not_before.to_datetime()))
    }

    fn sign(
        &self,
        subject: &SubjectKey,
        params: impl FnOnce() -> Result<rcgen::CertificateParams, rcgen::Error>,
    ) -> Result<Certificate, Error> {
        let own = self.chain.der().into();
        let issuer = rcgen::Issuer::from_ca_cert_der(&own, self.key).map_err(Error::Encoding)?;
        let der = self.key.encode(|_| {
            let mut params = params()?;
            params.use_authority_key_identifier_extension = true;
            Ok(params.signed_by(&subject.0, &issuer)?.der().to_vec())
        })?;
        // A root is known to whoever trusts it, and never sent along.
        let mut issuers = Vec::new();
        for der in self.chain.chain() {
            let certificate = parse(der)?;
            if certificate.issuer().as_raw() != certificate.subject().as_raw() {
                issuers.push(der.to_vec());
            }
        }
        let made = Certificate::new(der, issuers);
        made.require_issued_by(&parse(self.chain.der())?)?;
        Ok(made)
    }
}

/// Makes a root CA's certificate, signed with its own key.
///
/// # Errors
///
/// [`Error::TlsBound`], [`Error::Engine`].
pub fn root_ca(key: &RemoteKey<'_>, profile: &CaProfile) -> Result<Certificate, Error> {
    sign_self(key, || profile.to_rcgen(profile.path_length, profile.validity))
}

/// Makes a TLS server's certificate, signed with its own key: for tests and closed circles, where the certificate
/// itself is what clients trust.
///
/// # Errors
///
/// [`Error::TlsBound`], [`Error::Engine`].
pub fn self_signed(key: &RemoteKey<'_>, profile: &ServerProfile) -> Result<Certificate, Error> {
    sign_self(key, || profile.to_rcgen(profile.validity))
}

pub(crate) fn sign_self(
    key: &RemoteKey<'_>,
    params: impl FnOnce() -> Result<rcgen::CertificateParams, rcgen::Error>,
) -> Result<Certificate, Error> {
    key.require_certifying()?;
    let der = key.encode(|key| Ok(params()?.self_signed(key)?.der().to_vec()))?;
    let made = Certificate::new(der, Vec::new());
    made.require_issued_by(&parse(made.der())?)?;
    Ok(made)
}

/// Checks that a certificate may issue others; returns its path length.
fn require_ca(certificate: &X509Certificate<'_>) -> Result<Option<u32>, Error> {
    let not_a_ca = |reason| Err(Error::NotACa { reason });
    // rcgen reads names of this shape only, and panics at an empty set.
    if certificate.subject().iter_rdn().any(|rdn| rdn.iter().count() != 1) {
        return not_a_ca("its name has parts with several values");
    }
    if certificate.subject().iter_rdn().next().is_none() {
        return not_a_ca("it has no name");
    }
    let mut path_length = None;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                path_length = Some(constraints.path_len_constraint);
            }
            ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() => {
                return not_a_ca("its key usage lacks keyCertSign");
            }
            _ => {}
        }
    }
    match path_length {
        Some(path_length) => Ok(path_length),
        None => not_a_ca("it is no CA's certificate (basic constraints)"),
    }
}
