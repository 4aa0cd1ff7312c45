use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use keycore_wire::{KeyAlgorithm, KeyLabel};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::site::SiteSettings;
use super::{Config, units, validate};

/// `[acme]`: certificates of sites with `cert = "acme"` come from an authority by ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct AcmeSettings {
    /// The authority's directory.
    #[schemars(with = "String")]
    pub directory: AcmeUrl,
    /// Whether its terms of service are agreed to.
    pub terms_agreed: bool,
    /// Where it may write to, as "mailto:" addresses.
    pub contact: Vec<Contact>,
    /// Where certificates are kept.
    pub state_dir: PathBuf,
    /// PEM file of trust anchors for the authority's own server; the system's if absent.
    pub ca: Option<PathBuf>,
    /// How names are proven.
    pub challenge: ChallengeKind,
    /// The type of sites' keys.
    pub key_type: AcmeKeyType,
    /// Whether each renewal is for a new key.
    pub renew_key: bool,
    /// The label of the account's key in the engines.
    #[schemars(with = "String")]
    pub account_key: KeyLabel,
    /// The account's name at an authority that binds accounts to its own customers.
    pub eab_kid: Option<String>,
    /// The file of the MAC key that goes with it, in base64url.
    pub eab_key_file: Option<PathBuf>,
    /// The first pause after a failure; doubled each time, up to six hours.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::Duration")]
    pub retry: Duration,
}

/// How the authority sees that a name is ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ChallengeKind {
    /// It asks over plain HTTP (RFC 8555, section 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// It makes a TLS handshake for the protocol `acme-tls/1` (RFC 8737).
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// The type of a site's key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AcmeKeyType {
    /// ECDSA on P-256.
    #[default]
    #[serde(rename = "p256")]
    P256,
    /// ECDSA on P-384.
    #[serde(rename = "p384")]
    P384,
    /// RSA of 2,048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA of 3,072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA of 4,096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl AcmeKeyType {
    /// The engines' name of it.
    pub(crate) fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::P256 => KeyAlgorithm::P256,
            Self::P384 => KeyAlgorithm::P384,
            Self::Rsa2048 => KeyAlgorithm::Rsa2048,
            Self::Rsa3072 => KeyAlgorithm::Rsa3072,
            Self::Rsa4096 => KeyAlgorithm::Rsa4096,
        }
    }
}

impl ChallengeKind {
    /// Its name in ACME.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// An `https://` address with a host, of at most 2,048 characters. ACME is spoken over nothing else (RFC 8555, section 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeUrl(Uri);

/// Text that is no `https://` address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no https:// address of at most {LONGEST_URL} characters: ACME is spoken over HTTPS only, as in {DEFAULT:?}"
)]
pub struct InvalidAcmeUrl {
    text: String,
}

/// An e-mail address, as a `mailto:` URI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, with = "String")]
pub struct Contact(String);

/// Let's Encrypt.
const DEFAULT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Longest address, in characters: an authority's are signed, sent, kept and logged.
const LONGEST_URL: usize = 2048;

impl AcmeUrl {
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(crate) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(443)
    }

    /// Whether both are of the same server: host and port (RFC 6454, section 4).
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.host().eq_ignore_ascii_case(other.host()) && self.port() == other.port()
    }
}

impl fmt::Display for AcmeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AcmeUrl {
    type Err = InvalidAcmeUrl;

    fn from_str(text: &str) -> Result<Self, InvalidAcmeUrl> {
        let invalid = || InvalidAcmeUrl { text: text.chars().take(LONGEST_URL).collect() };
        if text.len() > LONGEST_URL {
            return Err(invalid());
        }
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let good = uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty());
        if good && !has_user { Ok(Self(uri)) } else { Err(invalid()) }
    }
}

impl<'de> Deserialize<'de> for AcmeUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Contact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = text.strip_prefix("mailto:").and_then(|address| address.split_once('@'));
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains([',', '?']);
        match address {
            Some((local, domain)) if printable && !local.is_empty() && domain.contains('.') => Ok(Self(text)),
            _ => Err(serde::de::Error::custom(format_args!(
                "{text:?} is no contact: write one address as \"mailto:operator@example.org\""
            ))),
        }
    }
}

#[expect(clippy::unwrap_used, reason = "constants; a test makes the default")]
impl Default for AcmeSettings {
    fn default() -> Self {
        Self {
            directory: DEFAULT.parse().unwrap(),
            terms_agreed: false,
            contact: Vec::new(),
            state_dir: PathBuf::from("/var/lib/hsm-proxy/acme"),
            ca: None,
            challenge: ChallengeKind::default(),
            key_type: AcmeKeyType::default(),
            renew_key: true,
            account_key: "hsm-proxy-acme-account".parse().unwrap(),
            eab_kid: None,
            eab_key_file: None,
            retry: Duration::from_secs(60),
        }
    }
}

impl AcmeSettings {
    /// Where a site's certificate is. A first host is no other site's, and has no character that leads out of the directory.
    pub(crate) fn certificate_file(&self, site: &SiteSettings) -> PathBuf {
        self.state_dir.join(format!("{}.pem", site.name()))
    }
}

/// Rules between keys.
pub(super) fn validate(config: &Config, text: &str) -> Result<(), (Option<std::ops::Range<usize>>, String)> {
    let settings = &config.acme;
    match (&settings.eab_kid, &settings.eab_key_file) {
        (Some(_), None) => return Err((None, "acme.eab-kid needs acme.eab-key-file".to_owned())),
        (None, Some(_)) => return Err((None, "acme.eab-key-file needs acme.eab-kid".to_owned())),
        _ => {}
    }
    if settings.retry < Duration::from_secs(1) {
        return Err((None, "acme.retry is less than a second: authorities limit failures".to_owned()));
    }
    for (at, site) in config.sites.iter().enumerate().filter(|(_, site)| site.cert.is_acme()) {
        let wrong = |reason: String| Err((validate::site_span(text, at), reason));
        if !settings.terms_agreed {
            return wrong(format!(
                "cert = \"acme\" needs `terms-agreed = true` in [acme]: read the terms of service of {} first",
                settings.directory.host()
            ));
        }
        if settings.challenge == ChallengeKind::Http01 && config.proxy.redirect_listen.is_empty() {
            return wrong(
                "cert = \"acme\" with acme.challenge = \"http-01\" needs proxy.redirect-listen, which the authority asks on port 80"
                    .to_owned(),
            );
        }
        if let Some(wildcard) = site.host.iter().find(|host| host.wildcard_suffix().is_some()) {
            return wrong(format!(
                "cert = \"acme\" can't prove the wildcard {wildcard}: authorities ask for a record in the DNS for it; name the hosts one by one"
            ));
        }
        if site.host.len() > hsm_certs::ServerNames::MAX {
            return wrong(format!(
                "cert = \"acme\" takes at most {} hosts for a site",
                hsm_certs::ServerNames::MAX
            ));
        }
        if let Some(Err(error)) =
            site.host.iter().map(|host| host.as_str().parse::<hsm_certs::DnsName>()).find(Result::is_err)
        {
            return wrong(format!("cert = \"acme\": {error}"));
        }
    }
    Ok(())
}

/// Whether this stands for no file, but for ACME.
pub(super) fn is_acme(path: &Path) -> bool {
    path == Path::new("acme")
}
