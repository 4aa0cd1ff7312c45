//! Names in certificates, valid by construction.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use rcgen::SanType;

/// Text that can't stand in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no valid {kind}: {rule}")]
pub struct InvalidCertificateName {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

impl InvalidCertificateName {
    pub(crate) fn new(kind: &'static str, text: impl Into<String>, rule: &'static str) -> Self {
        Self { kind, text: text.into(), rule }
    }
}

/// A DNS name, or a wildcard for one label below one (`*.example.org`), in lower case (RFC 5280, section 4.2.1.6;
/// RFC 6125, section 6.4.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(String);

impl DnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = InvalidCertificateName;

    fn from_str(text: &str) -> Result<Self, InvalidCertificateName> {
        let invalid = |rule| Err(InvalidCertificateName::new("DNS name", text, rule));
        if !text.is_ascii() {
            return invalid("write international names in their xn-- form");
        }
        let name = text.to_ascii_lowercase();
        let plain = name.strip_prefix("*.").unwrap_or(&name);
        if plain.contains('*') {
            return invalid("a wildcard is a whole first label: *.example.org");
        }
        if name.len() > 253 {
            return invalid("at most 253 characters");
        }
        for label in plain.split('.') {
            if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
                return invalid(
                    "each label has 1 to 63 characters and no hyphen at its ends; no dot at the end",
                );
            }
            if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return invalid("letters, digits and hyphens only");
            }
        }
        if plain.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return invalid("the last label is a number, as in an IP address");
        }
        Ok(Self(name))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a TLS server is called: a subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlternativeName {
    /// By a DNS name, wildcard or not.
    Dns(DnsName),
    /// By an address.
    Ip(IpAddr),
}

impl AlternativeName {
    pub(crate) fn to_rcgen(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Ip(address) => SanType::IpAddress(*address),
        })
    }
}

impl FromStr for AlternativeName {
    type Err = InvalidCertificateName;

    /// Reads an IP address if it is one, else a DNS name.
    fn from_str(text: &str) -> Result<Self, InvalidCertificateName> {
        match text.parse() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) => text.parse().map(Self::Dns),
        }
    }
}

impl fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// The names of a server certificate: at least one, none twice, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames(Vec<AlternativeName>);

impl ServerNames {
    /// Most names in one certificate.
    pub const MAX: usize = 100;

    /// # Errors
    ///
    /// If there is no name, or more than [`ServerNames::MAX`].
    pub fn new(names: impl IntoIterator<Item = AlternativeName>) -> Result<Self, InvalidCertificateName> {
        let mut kept: Vec<AlternativeName> = Vec::new();
        for name in names {
            if !kept.contains(&name) {
                kept.push(name);
            }
            if kept.len() > Self::MAX {
                return Err(InvalidCertificateName::new("list of names", "", "at most 100 names"));
            }
        }
        if kept.is_empty() {
            return Err(InvalidCertificateName::new(
                "list of names",
                "",
                "at least one DNS name or IP address",
            ));
        }
        Ok(Self(kept))
    }

    /// The names.
    pub fn as_slice(&self) -> &[AlternativeName] {
        &self.0
    }
}

/// An attribute of a subject, such as a common name: 1 to 64 characters (X.520's upper bound), none of them a
/// control character, no space at the ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectText(String);

impl SubjectText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubjectText {
    type Err = InvalidCertificateName;

    fn from_str(text: &str) -> Result<Self, InvalidCertificateName> {
        let fits = (1..=64).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) || text.trim() != text {
            return Err(InvalidCertificateName::new(
                "subject name",
                text,
                "1 to 64 characters, no control characters, no space at the ends",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SubjectText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_are_lower_case_host_names() {
        assert_eq!("WWW.Example.ORG".parse::<DnsName>().unwrap().as_str(), "www.example.org");
        for good in ["localhost", "*.example.org", "xn--bcher-kva.example", "1.example", "a-b.c"] {
            assert!(good.parse::<DnsName>().is_ok(), "{good}");
        }
        let long = format!("{}.org", "a.".repeat(126));
        for bad in [
            "",
            ".",
            "a..b",
            "a.",
            "-a.org",
            "a-.org",
            "*",
            "*.",
            "a.*.org",
            "w*.org",
            "**.org",
            "a_b.org",
            "a b",
            "bücher.example",
            "1.2.3.999",
            "a\0.org",
            &long,
        ] {
            assert!(bad.parse::<DnsName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        assert_eq!("::1".parse(), Ok(AlternativeName::Ip("::1".parse().unwrap())));
        assert_eq!("127.0.0.1".parse(), Ok(AlternativeName::Ip([127, 0, 0, 1].into())));
        assert!(matches!("a.org".parse(), Ok(AlternativeName::Dns(_))));
    }

    #[test]
    fn server_names_are_some_and_distinct() {
        let name: AlternativeName = "a.org".parse().unwrap();
        assert_eq!(ServerNames::new([name.clone(), name.clone()]).unwrap().as_slice(), [name]);
        assert!(ServerNames::new([]).is_err());
        let many = (0..=ServerNames::MAX).map(|i| format!("h{i}.org").parse().unwrap());
        assert!(ServerNames::new(many).is_err());
    }

    #[test]
    fn subject_text_is_bounded_in_characters() {
        assert!("é".repeat(64).parse::<SubjectText>().is_ok());
        for bad in [String::new(), "é".repeat(65), "a\nb".to_owned(), " a".to_owned()] {
            assert!(bad.parse::<SubjectText>().is_err(), "{bad:?}");
        }
    }
}
