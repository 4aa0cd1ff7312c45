use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;

use crate::key::{RemoteKey, SubjectKey};
use crate::verify::verify;
use crate::{Error, to_pem};

/// A certificate, and those above it that a server sends along: all CAs but the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    issuers: Vec<Vec<u8>>,
}

impl Certificate {
    pub(crate) fn new(der: Vec<u8>, issuers: Vec<Vec<u8>>) -> Self {
        Self { der, issuers }
    }

    /// Reads a chain, this certificate first, from PEM. Blocks of other kinds are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::NoPem`], or [`Error::Unreadable`] if one of them is not a certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let expected = "CERTIFICATE";
        let mut chain = CertificateDer::pem_slice_iter(pem)
            .map(|der| der.map(|der| der.to_vec()).map_err(|_| Error::NoPem { expected }))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let der = chain.next().ok_or(Error::NoPem { expected })?;
        let certificate = Self { der, issuers: chain.collect() };
        for der in certificate.chain() {
            parse(der)?;
        }
        Ok(certificate)
    }

    /// The certificate alone, in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate and those above it, in DER, in the order of [`Certificate::chain_pem`].
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(&self.der).chain(&self.issuers).map(Vec::as_slice)
    }

    /// The certificate alone, in PEM.
    pub fn pem(&self) -> String {
        to_pem("CERTIFICATE", &self.der)
    }

    /// What a server is configured with: the certificate first, then each one's issuer, without the root.
    pub fn chain_pem(&self) -> String {
        self.chain().map(|der| to_pem("CERTIFICATE", der)).collect()
    }

    /// Checks that it is the certificate of this key.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`].
    pub fn require_key(&self, key: &RemoteKey<'_>) -> Result<(), Error> {
        if self.public_key()? == key.subject() {
            Ok(())
        } else {
            Err(Error::KeyMismatch { label: key.info().label.clone() })
        }
    }

    /// The public key that it certifies.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedAlgorithm`].
    pub fn public_key(&self) -> Result<SubjectKey, Error> {
        SubjectKey::from_spki(parse(&self.der)?.public_key().raw)
    }

    /// Checks the whole of what was just made against its issuer: names byte for byte, and the signature.
    pub(crate) fn require_issued_by(&self, issuer: &X509Certificate<'_>) -> Result<(), Error> {
        let made = parse(&self.der)?;
        if made.issuer().as_raw() != issuer.subject().as_raw() {
            return Err(Error::NotACa { reason: "its name is written in a way that can't be reproduced" });
        }
        verify(
            issuer.public_key(),
            &made.signature_algorithm,
            made.tbs_certificate.as_ref(),
            &made.signature_value.data,
            || Error::SelfCheck,
        )
    }
}

/// Reads one DER certificate; nothing may follow it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    let unreadable = |reason: String| Error::Unreadable { what: "certificate", reason };
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(unreadable("bytes follow its end".to_owned())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}
