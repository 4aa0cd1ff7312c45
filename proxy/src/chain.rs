use std::net::IpAddr;
use std::path::{Path, PathBuf};

use keycore_wire::SpkiSha256;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::ParsedCertificate;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::config::HostPattern;

/// A certificate chain from a PEM file, the site's own certificate first.
#[derive(Debug, Clone)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    spki: SubjectPublicKeyInfoDer<'static>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    names: Vec<Box<str>>,
}

/// A file that holds no usable certificate chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The file can't be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A section is not valid PEM.
    #[error("{} is not a PEM file: {source}", .path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in it.
    #[error("{} holds no certificate", .path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// There is a private key in it, where none must be.
    #[error(
        "{} holds a private key: give the proxy the certificates only, import the key into the engine \
         (`hsm key import`) and delete it from the file", .path.display()
    )]
    PrivateKey {
        /// Which.
        path: PathBuf,
    },
    /// A certificate is malformed.
    #[error("certificate {number} of {} is malformed: {reason}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which certificate, from 1.
        number: usize,
        /// Why, in one line.
        reason: String,
    },
}

impl Chain {
    /// Reads a PEM file: certificates, the site's own first.
    ///
    /// # Errors
    ///
    /// [`ChainError`], with the file.
    pub fn load(path: &Path) -> Result<Self, ChainError> {
        // Wiped, in case there is a key in it after all.
        let pem = Zeroizing::new(
            std::fs::read(path).map_err(|source| ChainError::Unreadable { path: path.to_owned(), source })?,
        );
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem) {
            let (kind, der) =
                section.map_err(|source| ChainError::NotPem { path: path.to_owned(), source })?;
            let der = Zeroizing::new(der);
            match kind {
                SectionKind::Certificate => certificates.push(CertificateDer::from(der.to_vec())),
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    return Err(ChainError::PrivateKey { path: path.to_owned() });
                }
                _ => {}
            }
        }
        Self::of(certificates, path)
    }

    fn of(certificates: Vec<CertificateDer<'static>>, path: &Path) -> Result<Self, ChainError> {
        let malformed = |at: usize, reason: String| ChainError::Malformed {
            path: path.to_owned(),
            number: at + 1,
            reason,
        };
        let leaf = certificates.first().ok_or_else(|| ChainError::Empty { path: path.to_owned() })?;
        for (at, certificate) in certificates.iter().enumerate().skip(1) {
            parse(certificate).map_err(|reason| malformed(at, reason))?;
        }
        let parsed = parse(leaf).map_err(|reason| malformed(0, reason))?;
        let spki = ParsedCertificate::try_from(leaf)
            .map_err(|error| malformed(0, error.to_string()))?
            .subject_public_key_info();
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        let names = names(&parsed);
        Ok(Self { spki, not_before, not_after, names, certificates })
    }

    /// The certificates, in the file's order.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The site's own certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certificates[0] // `of` refuses an empty chain
    }

    /// The public key of the site's own certificate.
    pub fn spki(&self) -> &SubjectPublicKeyInfoDer<'static> {
        &self.spki
    }

    /// What the engines call its key.
    pub fn spki_sha256(&self) -> SpkiSha256 {
        spki_sha256(&self.spki)
    }

    /// When the site's own certificate begins to be valid.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// When it ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Its names: DNS names in lower case, and IP addresses as text.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Whether the certificate is good for all names of `host` (RFC 6125, section 6.4.3).
    pub fn covers(&self, host: &HostPattern) -> bool {
        let parent = host.as_str().split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| {
            **name == *host.as_str() || name.strip_prefix("*.").is_some_and(|suffix| Some(suffix) == parent)
        })
    }
}

/// What the engines call the key with this public key.
pub(crate) fn spki_sha256(spki: &SubjectPublicKeyInfoDer<'_>) -> SpkiSha256 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    SpkiSha256(bytes)
}

/// The certificate's structure; why not, in one line.
pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok((rest, _)) => Err(format!("{} bytes follow it", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            GeneralName::IPAddress(bytes) => ip_address(bytes).map(|address| address.to_string().into()),
            _ => None,
        })
        .collect()
}

pub(crate) fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests;
