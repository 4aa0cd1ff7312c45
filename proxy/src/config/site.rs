use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::certificate::CertificateSource;
use super::destination::Destination;
use super::fields::{AddedField, Hsts, RemovedField};
use super::files;
use super::host::{self, HostPattern};
use super::rate::Rate;
use super::units;
use crate::compression::Coding;
use crate::tls::{ClientAuth, MinTls};

/// `[[site]]`: what is served under some host names.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SiteSettings {
    /// Names: exact ones, or `*.` and a domain.
    #[serde(deserialize_with = "host::one_or_more")]
    #[schemars(with = "host::OneOrMore")]
    pub host: Vec<HostPattern>,
    /// PEM file of the certificate chain, the site's own certificate first; several for keys of several kinds; or "acme".
    pub cert: CertificateSource,
    /// DER files of OCSP responses for these certificates, to be stapled.
    #[serde(default, deserialize_with = "files::one_or_more")]
    #[schemars(with = "host::OneOrMore")]
    pub ocsp: Vec<PathBuf>,
    /// Where requests go: a server, or the name of an `[[upstream]]`.
    pub to: Destination,
    /// The lowest version of TLS; the preset's if absent.
    pub min_tls: Option<MinTls>,
    /// Whether clients need a certificate.
    pub client_auth: Option<ClientAuth>,
    /// PEM file of the authorities whose certificates are accepted.
    pub client_ca: Option<PathBuf>,
    /// PEM files of the authorities' revocation lists.
    #[serde(default, deserialize_with = "files::one_or_more")]
    #[schemars(with = "host::OneOrMore")]
    pub client_crl: Vec<PathBuf>,
    /// Requests of all clients together, like "500/s"; no limit if absent.
    pub max_requests: Option<Rate>,
    /// A request's body, in bytes; `limits.body-bytes` if absent.
    #[serde(default, with = "units::optional_size")]
    #[schemars(with = "Option<units::Size>")]
    pub body_bytes: Option<usize>,
    /// The value of `Strict-Transport-Security` on every response.
    pub hsts: Option<Hsts>,
    /// Fields of every response, as "Name: value", in place of those of that name from the upstream.
    #[serde(default)]
    pub add_headers: Vec<AddedField>,
    /// Names of fields that no response has.
    #[serde(default)]
    pub remove_headers: Vec<RemovedField>,
    /// Fields of every request to the upstream, as "Name: value", in place of those of that name from the client.
    #[serde(default)]
    pub add_request_headers: Vec<AddedField>,
    /// Names of fields that no request to the upstream has.
    #[serde(default)]
    pub remove_request_headers: Vec<RemovedField>,
    /// Directory with pages like `502.html` for errors of this proxy.
    pub error_pages: Option<PathBuf>,
    /// How responses are compressed, what is liked best first; not at all if empty.
    #[serde(default)]
    pub compress: Vec<Coding>,
    /// The least length, in bytes, that is worth it.
    #[serde(default = "compress_min_size", with = "units::size")]
    #[schemars(with = "units::Size")]
    pub compress_min_size: usize,
}

impl SiteSettings {
    /// A site with the three keys that each has, and the defaults of all others.
    pub fn new(host: Vec<HostPattern>, cert: Vec<PathBuf>, to: Destination) -> Self {
        Self {
            host,
            cert: CertificateSource::Files(cert),
            ocsp: Vec::new(),
            to,
            min_tls: None,
            client_auth: None,
            client_ca: None,
            client_crl: Vec::new(),
            max_requests: None,
            body_bytes: None,
            hsts: None,
            add_headers: Vec::new(),
            remove_headers: Vec::new(),
            add_request_headers: Vec::new(),
            remove_request_headers: Vec::new(),
            error_pages: None,
            compress: Vec::new(),
            compress_min_size: compress_min_size(),
        }
    }
}

impl SiteSettings {
    /// The name that stands for the site in logs: its first host.
    pub(crate) fn name(&self) -> &str {
        self.host.first().map_or("", HostPattern::as_str)
    }
}

/// Below it, compressing costs more than it saves: such a response fits into one packet.
fn compress_min_size() -> usize {
    1024
}
