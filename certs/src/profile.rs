//! What a certificate says, apart from its key.

use core::fmt;
use core::str::FromStr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::names::{AlternativeName, InvalidCertificateName, ServerNames, SubjectText};

/// Whole days that a certificate is valid: 1 to 36,500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Days(u32);

impl Days {
    const MAX: u32 = 36_500;

    /// # Errors
    ///
    /// If it is 0 or more than 36,500.
    pub fn new(days: u32) -> Result<Self, InvalidCertificateName> {
        if (1..=Self::MAX).contains(&days) {
            Ok(Self(days))
        } else {
            Err(InvalidCertificateName::new("number of days", days.to_string(), "from 1 to 36500"))
        }
    }
}

impl FromStr for Days {
    type Err = InvalidCertificateName;

    fn from_str(text: &str) -> Result<Self, InvalidCertificateName> {
        Self::new(text.parse().unwrap_or(0))
            .map_err(|_| InvalidCertificateName::new("number of days", text, "from 1 to 36500"))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// From an hour before `now`, for clocks that are late, until `days` after `now`.
    pub fn starting(now: OffsetDateTime, days: Days) -> Self {
        // RFC 5280, section 4.1.2.5: the last moment that can be written.
        let end_of_time = datetime!(9999-12-31 23:59:59 UTC);
        let now = now.replace_nanosecond(0).unwrap_or(now);
        Self {
            not_before: now.checked_sub(Duration::HOUR).unwrap_or(now),
            not_after: now
                .checked_add(Duration::days(days.0.into()))
                .map_or(end_of_time, |end| end.min(end_of_time)),
        }
    }

    /// The first second.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The same end, but no earlier than `start`.
    pub(crate) fn not_before_that_of(self, start: OffsetDateTime) -> Self {
        Self { not_before: self.not_before.max(start), ..self }
    }
}

/// Whose certificate it is, as shown to people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name (CN). TLS clients ignore it.
    pub common_name: Option<SubjectText>,
    /// The organization (O).
    pub organization: Option<SubjectText>,
}

impl Subject {
    pub(crate) fn to_rcgen(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        for (kind, text) in
            [(DnType::OrganizationName, &self.organization), (DnType::CommonName, &self.common_name)]
        {
            if let Some(text) = text {
                name.push(kind, text.as_str());
            }
        }
        name
    }
}

/// A TLS server's certificate: digitalSignature, serverAuth, no CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerProfile {
    /// Whose it is; may be empty.
    pub subject: Subject,
    /// What the server is called.
    pub names: ServerNames,
    /// When it is valid.
    pub validity: Validity,
}

impl ServerProfile {
    /// A certificate with an empty subject.
    pub fn new(names: ServerNames, validity: Validity) -> Self {
        Self { subject: Subject::default(), names, validity }
    }

    pub(crate) fn to_rcgen(&self, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
        let mut params = server_params(&self.subject, &self.names)?;
        complete(&mut params, validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        Ok(params)
    }
}

/// What a server's certificate and the request for it have in common.
pub(crate) fn server_params(
    subject: &Subject,
    names: &ServerNames,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject.to_rcgen();
    params.subject_alt_names =
        names.as_slice().iter().map(AlternativeName::to_rcgen).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// A TLS client's certificate: digitalSignature, clientAuth, no CA, no names but the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientProfile {
    /// Who it is, for people and logs; never empty, because there is no other name.
    pub common_name: SubjectText,
    /// The organization that runs it.
    pub organization: Option<SubjectText>,
    /// When it is valid.
    pub validity: Validity,
}

impl ClientProfile {
    pub(crate) fn to_rcgen(&self, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        complete(&mut params, validity)?;
        let subject =
            Subject { common_name: Some(self.common_name.clone()), organization: self.organization.clone() };
        params.distinguished_name = subject.to_rcgen();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        Ok(params)
    }
}

/// A CA's certificate: keyCertSign, cRLSign, critical BasicConstraints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaProfile {
    /// The CA's name; never empty (RFC 5280, section 4.1.2.6).
    pub common_name: SubjectText,
    /// The organization that runs it.
    pub organization: Option<SubjectText>,
    /// How many CAs may stand below it; none for no limit.
    pub path_length: Option<u8>,
    /// When it is valid.
    pub validity: Validity,
}

impl CaProfile {
    /// A CA without a limit of its path length.
    pub fn new(common_name: SubjectText, validity: Validity) -> Self {
        Self { common_name, organization: None, path_length: None, validity }
    }

    pub(crate) fn to_rcgen(
        &self,
        path_length: Option<u8>,
        validity: Validity,
    ) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        complete(&mut params, validity)?;
        let subject =
            Subject { common_name: Some(self.common_name.clone()), organization: self.organization.clone() };
        params.distinguished_name = subject.to_rcgen();
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.is_ca = IsCa::Ca(match path_length {
            Some(length) => BasicConstraints::Constrained(length),
            None => BasicConstraints::Unconstrained,
        });
        Ok(params)
    }
}

pub(crate) fn complete(params: &mut CertificateParams, validity: Validity) -> Result<(), rcgen::Error> {
    params.serial_number = Some(random_serial()?);
    params.not_before = validity.not_before();
    params.not_after = validity.not_after();
    Ok(())
}

/// A positive number of 20 octets at most (RFC 5280, section 4.1.2.2) with 158 random bits, where the CA/Browser
/// Forum asks for 64.
fn random_serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 20];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    // The top bit clear makes it positive, the next one set keeps its length.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_backdated_by_an_hour_and_ends_with_time() {
        let now = datetime!(2026-11-22 10:30:15.5 UTC);
        let validity = Validity::starting(now, Days::new(90).unwrap());
        assert_eq!(validity.not_before(), datetime!(2026-11-22 9:30:15 UTC));
        assert_eq!(validity.not_after(), datetime!(2027-02-20 10:30:15 UTC));
        let late = Validity::starting(datetime!(9950-01-01 0:00 UTC), Days::new(36_500).unwrap());
        assert_eq!(late.not_after(), datetime!(9999-12-31 23:59:59 UTC));
    }

    #[test]
    fn days_are_bounded() {
        for bad in ["0", "-1", "36501", "x", "99999999999"] {
            assert!(bad.parse::<Days>().is_err(), "{bad}");
        }
        assert_eq!("36500".parse::<Days>().unwrap().to_string(), "36500");
    }

    #[test]
    fn serials_are_positive_distinct_and_20_octets_long() {
        let serials: std::collections::HashSet<_> =
            (0..64).map(|_| random_serial().unwrap().to_bytes()).collect();
        assert_eq!(serials.len(), 64);
        assert!(serials.iter().all(|serial| serial.len() == 20 && serial[0] & 0xc0 == 0x40));
    }
}
