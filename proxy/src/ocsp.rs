//! Responses of OCSP (RFC 6960) from files, to be stapled to handshakes (RFC 8446, section 4.4.2.1).
//!
//! Clients verify a response's signature. Here it is read only as far as to see that it helps them: a response that says
//! something else of the certificate, or nothing any more, is worse than none.

mod der;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest::{self, Algorithm};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

use crate::chain::{Chain, parse};
use crate::config::SiteSettings;
use crate::tls::Certificates;
use der::{Malformed, Reader, tag};

/// Longest file that is read, in bytes: a response is one to three KiB.
const LONGEST: u64 = 64 * 1024;

/// What an authority says of certificates.
#[derive(Debug)]
pub(crate) struct OcspResponse {
    der: Vec<u8>,
    singles: Vec<Single>,
}

/// What it says of one.
#[derive(Debug, PartialEq, Eq)]
struct Single {
    hash: Hash,
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    serial: Vec<u8>,
    status: Status,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Good,
    Revoked,
    Unknown,
}

/// Why a response is not stapled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OcspError {
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is longer than {LONGEST} bytes: it is no OCSP response", .0.display())]
    TooLong(PathBuf),
    #[error("{} is no OCSP response in DER (RFC 6960)", .0.display())]
    Malformed(PathBuf),
    #[error("{}: the responder had an error ({status}) and said nothing of the certificate", .path.display())]
    Unsuccessful { path: PathBuf, status: u8 },
    #[error("{} is of another certificate, or of another issuer's", .0.display())]
    OtherCertificate(PathBuf),
    #[error("{} says that the certificate is {status}", .path.display())]
    NotGood { path: PathBuf, status: &'static str },
    #[error("{} is not valid before {from}", .path.display())]
    TooEarly { path: PathBuf, from: OffsetDateTime },
    #[error("{} was valid until {until}", .path.display())]
    Expired { path: PathBuf, until: OffsetDateTime },
    #[error("{} does not say until when it is valid", .0.display())]
    NoEnd(PathBuf),
}

impl OcspResponse {
    /// Reads a file in DER.
    pub(crate) fn load(path: &Path) -> Result<Self, OcspError> {
        let failed = |source| OcspError::File { path: path.to_owned(), source };
        // A pipe must not hold up a reload, and a file may grow while it is read.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let mut der = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut der).map_err(failed)?;
        if der.len() as u64 > LONGEST {
            return Err(OcspError::TooLong(path.to_owned()));
        }
        match singles(&der) {
            Ok(Ok(singles)) => Ok(Self { der, singles }),
            Ok(Err(status)) => Err(OcspError::Unsuccessful { path: path.to_owned(), status }),
            Err(Malformed) => Err(OcspError::Malformed(path.to_owned())),
        }
    }

    /// The bytes to be stapled.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Until when it may be stapled to the first certificate of a chain, whose issuer is the second one. Of a chain without
    /// issuer only the serial number and the issuer's name are compared.
    pub(crate) fn good_until(
        &self,
        chain: &[CertificateDer<'_>],
        path: &Path,
        now: OffsetDateTime,
    ) -> Result<SystemTime, OcspError> {
        let other = || OcspError::OtherCertificate(path.to_owned());
        let leaf = chain.first().and_then(|leaf| parse(leaf).ok()).ok_or_else(other)?;
        let issuer = chain.get(1).and_then(|issuer| parse(issuer).ok());
        let of_it = self.singles.iter().find(|single| single.is_of(&leaf, issuer.as_ref()));
        let single = of_it.ok_or_else(other)?;
        let path = path.to_owned();
        match single.status {
            Status::Good => {}
            Status::Revoked => return Err(OcspError::NotGood { path, status: "revoked" }),
            Status::Unknown => return Err(OcspError::NotGood { path, status: "unknown to the responder" }),
        }
        if now < single.this_update {
            return Err(OcspError::TooEarly { path, from: single.this_update });
        }
        match single.next_update {
            Some(until) if now < until => Ok(until.into()),
            Some(until) => Err(OcspError::Expired { path, until }),
            None => Err(OcspError::NoEnd(path)),
        }
    }
}

/// What a site staples.
#[derive(Debug)]
pub(crate) struct Staple {
    /// The site's name.
    pub(crate) site: Box<str>,
    /// When the first of its responses ends; none if one of them is not stapled.
    pub(crate) until: Option<SystemTime>,
}

impl Staple {
    /// Staples what a site names to its certificates, as far as it is good; the log says what is not. `None` if it names nothing.
    pub(crate) fn of(site: &SiteSettings, certificates: &mut Certificates) -> Option<Self> {
        let now = OffsetDateTime::now_utc();
        let mut until = None;
        let mut all = true;
        for path in &site.ocsp {
            let stapled = OcspResponse::load(path).map_err(Some).and_then(|response| {
                let good_until = |key: &CertifiedKey| response.good_until(&key.cert, path, now);
                certificates.staple(response.der(), path, good_until, OcspError::is_of_another)
            });
            match stapled {
                Ok(end) => until = Some(until.map_or(end, |soonest: SystemTime| soonest.min(end))),
                Err(error) => {
                    all = false;
                    if let Some(error) = error {
                        tracing::warn!(site = site.name(), %error, "an OCSP response is not stapled");
                    }
                }
            }
        }
        let until = until.filter(|_| all);
        (!site.ocsp.is_empty()).then(|| Self { site: site.name().into(), until })
    }
}

/// What will not be stapled to the certificate of this chain, and what it lacks, one line each.
pub(crate) fn inspect(site: &SiteSettings, chain: &Chain, now: OffsetDateTime) -> Vec<String> {
    let (mut problems, mut good) = (Vec::new(), false);
    let several = site.cert.files().len() > 1;
    for path in &site.ocsp {
        let looked = OcspResponse::load(path)
            .and_then(|response| response.good_until(chain.certificates(), path, now).map(drop));
        match looked {
            Ok(()) => good = true,
            Err(error) if several && error.is_of_another() => {}
            Err(error) => problems.push(format!("not stapled: {error}")),
        }
    }
    if !good && must_staple(chain) {
        problems.push(
            "the certificate demands a stapled OCSP response (RFC 7633), and there is none: clients may refuse it"
                .to_owned(),
        );
    }
    problems
}

/// RFC 7633: the feature status_request.
fn must_staple(chain: &Chain) -> bool {
    const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 0x18];
    const STATUS_REQUEST: [u8; 5] = [0x30, 3, 2, 1, 5];
    let Ok(leaf) = parse(chain.leaf()) else { return false };
    leaf.extensions().iter().any(|extension| {
        extension.oid.as_bytes() == TLS_FEATURE && extension.value.starts_with(&STATUS_REQUEST)
    })
}

impl OcspError {
    /// Whether the file may belong to another certificate of the same site.
    pub(crate) fn is_of_another(&self) -> bool {
        matches!(self, Self::OtherCertificate(_))
    }
}

impl Single {
    fn is_of(&self, leaf: &X509Certificate<'_>, issuer: Option<&X509Certificate<'_>>) -> bool {
        let hash = |bytes: &[u8]| self.hash.of(bytes);
        self.serial == leaf.raw_serial()
            && hash(leaf.issuer().as_raw()).is_some_and(|name| name == self.issuer_name)
            && issuer.is_none_or(|issuer| {
                let key = &issuer.public_key().subject_public_key.data;
                hash(key).is_some_and(|key| key == self.issuer_key)
            })
    }
}

impl Hash {
    fn of(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let algorithm: &'static Algorithm = match self {
            // RFC 5019 has names and keys hashed by it; nobody relies on it to be hard to break.
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Other => return None,
        };
        Some(digest::digest(algorithm, bytes).as_ref().to_vec())
    }
}

/// What a response (RFC 6960, section 4.2.1) says of certificates, or the responder's error.
fn singles(der: &[u8]) -> Result<Result<Vec<Single>, u8>, Malformed> {
    const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

    let mut outer = Reader::new(der);
    let mut response = outer.take(tag::SEQUENCE)?;
    outer.end()?;
    let [status] = response.take(tag::ENUMERATED)?.rest() else { return Err(Malformed) };
    if *status != 0 {
        return Ok(Err(*status));
    }
    let mut bytes = response.take(tag::context(0))?.take(tag::SEQUENCE)?;
    if bytes.take(tag::OBJECT_IDENTIFIER)?.rest() != BASIC {
        return Err(Malformed);
    }
    let mut basic = bytes.take(tag::OCTET_STRING)?.take(tag::SEQUENCE)?;
    let mut data = basic.take(tag::SEQUENCE)?;
    data.skip_if(tag::context(0))?;
    // Who says it: by name or by key.
    if !data.skip_if(tag::context(1))? && !data.skip_if(tag::context(2))? {
        return Err(Malformed);
    }
    data.take(tag::GENERALIZED_TIME)?;
    let mut list = data.take(tag::SEQUENCE)?;
    let mut singles = Vec::new();
    while !list.is_empty() {
        let mut single = list.take(tag::SEQUENCE)?;
        let mut id = single.take(tag::SEQUENCE)?;
        let hash = match id.take(tag::SEQUENCE)?.take(tag::OBJECT_IDENTIFIER)?.rest() {
            SHA1 => Hash::Sha1,
            SHA256 => Hash::Sha256,
            _ => Hash::Other,
        };
        let issuer_name = id.take(tag::OCTET_STRING)?.rest().to_vec();
        let issuer_key = id.take(tag::OCTET_STRING)?.rest().to_vec();
        let serial = id.take(tag::INTEGER)?.rest().to_vec();
        let status = if single.skip_if(tag::primitive(0))? {
            Status::Good
        } else if single.skip_if(tag::context(1))? {
            Status::Revoked
        } else if single.skip_if(tag::primitive(2))? {
            Status::Unknown
        } else {
            return Err(Malformed);
        };
        let this_update = single.time()?;
        let next_update = match single.take_if(tag::context(0))? {
            Some(mut next) => Some(next.time()?),
            None => None,
        };
        singles.push(Single { hash, issuer_name, issuer_key, serial, status, this_update, next_update });
    }
    Ok(Ok(singles))
}

#[cfg(test)]
mod tests;
