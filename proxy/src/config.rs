//! The configuration file: TOML, kebab-case keys, two levels. `docs/configuration.md` lists every key.

mod acme;
mod certificate;
mod destination;
mod error;
mod fields;
mod files;
mod host;
mod hsm;
mod limits;
mod log;
mod network;
mod passthrough;
mod proxy;
mod rate;
mod route;
mod site;
mod timeouts;
mod tls;
mod traces;
mod units;
mod upstream;
mod upstream_url;
mod validate;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

pub use acme::{AcmeKeyType, AcmeSettings, AcmeUrl, ChallengeKind, Contact, InvalidAcmeUrl};
pub use certificate::CertificateSource;
pub use destination::{Destination, InvalidUpstreamName, UpstreamName};
pub use error::ConfigError;
pub use fields::{AddedField, Hsts, InvalidField, RemovedField};
pub use host::{HostPattern, InvalidHost};
pub use hsm::HsmSettings;
pub use limits::Limits;
pub use log::{LogFormat, LogSettings};
pub use network::{InvalidNetwork, Network};
pub use passthrough::{InvalidPassthroughTarget, PassthroughSettings, PassthroughTarget};
pub(crate) use proxy::Entrance;
pub use proxy::ProxySettings;
pub use rate::{InvalidRate, Rate};
pub use route::{InvalidRoutePath, RoutePath, RouteSettings};
pub use site::SiteSettings;
pub use timeouts::Timeouts;
pub use tls::{TlsPreset, TlsSettings};
pub use traces::{CollectorUrl, InvalidCollectorUrl, Share, TraceSettings};
pub use upstream::{
    Balance, CookieName, HashBy, HealthCheck, HealthStatus, ProxyProtocol, TlsName, UpstreamSettings,
};
pub use upstream_url::{InvalidUpstream, UpstreamPlace, UpstreamScheme, UpstreamUrl};

/// A whole configuration, valid by itself: what it names (files, sockets, addresses) has not been looked at.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Sockets and threads.
    pub proxy: ProxySettings,
    /// The engines that hold the keys.
    pub hsm: HsmSettings,
    /// How TLS is spoken.
    pub tls: TlsSettings,
    /// The authority that certificates come from by themselves.
    pub acme: AcmeSettings,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many and how large things may be.
    pub limits: Limits,
    /// A line for each request.
    pub log: LogSettings,
    /// What requests took, for a collector.
    pub traces: TraceSettings,
    /// What is served.
    #[serde(rename = "site")]
    pub sites: Vec<SiteSettings>,
    /// Other upstreams for parts of sites.
    #[serde(rename = "route")]
    pub routes: Vec<RouteSettings>,
    /// Servers that share the requests of sites.
    #[serde(rename = "upstream")]
    pub upstreams: Vec<UpstreamSettings>,
    /// Connections that are passed on as they are.
    #[serde(rename = "passthrough")]
    pub passthroughs: Vec<PassthroughSettings>,
}

impl Config {
    /// The JSON Schema (draft 2020-12) of the file, for editors; `docs/hsm-proxy.schema.json` is this text.
    pub fn json_schema() -> String {
        let schema = schemars::schema_for!(Self);
        format!("{:#}\n", schema.as_value())
    }

    /// Reads a configuration from its text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the line, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::syntax(text, &error))?;
        config.check(text)?;
        Ok(config)
    }

    /// Reads a configuration file. Relative paths in it are relative to the working directory.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the file, the line, and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        Self::parse(&text).map_err(|error| error.in_file(path))
    }

    /// The files that a reload reads anew, so that a change of one is a reason for it; the same one perhaps several times.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let certificates = self.sites.iter().flat_map(|site| self.certificate_files(site));
        let others = self
            .sites
            .iter()
            .flat_map(|site| site.ocsp.iter().chain(&site.client_ca).chain(&site.client_crl));
        let anchors = self.upstreams.iter().filter_map(|upstream| upstream.tls_ca.as_ref());
        let shown = self.upstreams.iter().filter_map(|upstream| upstream.client_cert.as_ref());
        let traces = self.traces.headers_file.iter().chain(&self.traces.ca);
        certificates.chain(others.chain(anchors).chain(shown).chain(traces).cloned())
    }

    /// Where a site's certificates are; that of ACME may not be there yet. None for a directory.
    pub(crate) fn certificate_files(&self, site: &SiteSettings) -> Vec<PathBuf> {
        match &site.cert {
            CertificateSource::Files(files) => files.clone(),
            CertificateSource::Acme => vec![self.acme.certificate_file(site)],
            // Looked up when a client comes, and so no part of a generation.
            CertificateSource::Directory(_) => Vec::new(),
        }
    }

    /// Where requests go: those of each site and each route.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let sites = self.sites.iter().map(|site| &site.to);
        sites.chain(self.routes.iter().map(|route| &route.to))
    }

    /// What serde can't see: values out of bounds, and rules between keys.
    fn check(&self, text: &str) -> Result<(), ConfigError> {
        validate::validate(self).map_err(|(site, message)| {
            let span = site.and_then(|site| validate::site_span(text, site));
            ConfigError::at(text, span, message)
        })?;
        route::validate(self, text)
            .and_then(|()| upstream::validate(self, text))
            .and_then(|()| acme::validate(self, text))
            .and_then(|()| passthrough::validate(self, text))
            .map_err(|(span, message)| ConfigError::at(text, span, message))
    }
}

#[cfg(test)]
mod tests;
