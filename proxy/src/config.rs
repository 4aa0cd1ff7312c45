//! The configuration file: TOML, kebab-case keys, two levels. `docs/configuration.md` lists every key.

mod error;
mod host;
mod units;
mod upstream_url;
mod validate;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keycore_client::EngineAddress;
use keycore_wire::UserName;
use serde::Deserialize;

pub use error::ConfigError;
pub use host::{HostPattern, InvalidHost};
pub use upstream_url::{InvalidUpstream, UpstreamUrl};

/// A whole configuration, valid by itself: what it names (files, sockets, addresses) has not been looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Sockets and threads.
    pub proxy: ProxySettings,
    /// The engines that hold the keys.
    pub hsm: HsmSettings,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many and how large things may be.
    pub limits: Limits,
    /// What is served.
    #[serde(rename = "site")]
    pub sites: Vec<SiteSettings>,
}

/// `[proxy]`: sockets and threads.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProxySettings {
    /// Addresses to accept TLS connections on. Port 0 takes any free one, for tests.
    pub listen: Vec<SocketAddr>,
    /// Worker threads; 0 means one for each core.
    pub workers: usize,
    /// Where to write the process id; not at all if absent.
    pub pid_file: Option<PathBuf>,
    /// Where to serve `/healthz`, `/readyz` and `/metrics` in plain HTTP; not at all if absent.
    pub admin_listen: Option<SocketAddr>,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8443))],
            workers: 0,
            pid_file: None,
            admin_listen: None,
        }
    }
}

/// `[hsm]`: the engines that hold the keys, and who the proxy is to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct HsmSettings {
    /// Sockets of the engines, or `tcp://host:port`; if empty, every `/run/hsm-engine/engine-*.sock`, also those that come later.
    #[serde(deserialize_with = "engine_addresses")]
    pub engines: Vec<EngineAddress>,
    /// The crypto user that owns the sites' keys.
    pub user: UserName,
    /// Its password; `$CREDENTIALS_DIRECTORY/hsm-password` if absent. Without either the proxy logs in by its uid.
    pub password_file: Option<PathBuf>,
    /// Trust anchor of the cluster, in PEM: for engines at `tcp://`.
    pub tls_ca: Option<PathBuf>,
    /// The certificate that the proxy shows to engines at `tcp://`, in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM, readable by its owner only.
    pub tls_key: Option<PathBuf>,
}

fn engine_addresses<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<EngineAddress>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

#[expect(clippy::unwrap_used, reason = "a constant; a test makes the default")]
impl Default for HsmSettings {
    fn default() -> Self {
        Self {
            engines: Vec::new(),
            user: "web".parse().unwrap(),
            password_file: None,
            tls_ca: None,
            tls_certificate: None,
            tls_key: None,
        }
    }
}

/// `[timeouts]`: how long things may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Timeouts {
    /// From a connection's acceptance to the end of its TLS handshake.
    #[serde(with = "units::duration")]
    pub handshake: Duration,
    /// One signature, over all engines that are tried for it.
    #[serde(with = "units::duration")]
    pub sign: Duration,
    /// From a request's first byte (the handshake's end, for the first request) to the end of its head.
    #[serde(with = "units::duration")]
    pub header: Duration,
    /// A client's connection without a request.
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// A request's or response's body without progress.
    #[serde(with = "units::duration")]
    pub stall: Duration,
    /// Connecting to an upstream.
    #[serde(with = "units::duration")]
    pub upstream_connect: Duration,
    /// From a request's end to the head of the upstream's response.
    #[serde(with = "units::duration")]
    pub upstream_response: Duration,
    /// An upstream connection kept without a request.
    #[serde(with = "units::duration")]
    pub upstream_idle: Duration,
    /// From SIGTERM to the end of the last connection.
    #[serde(with = "units::duration")]
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            sign: Duration::from_secs(5),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            upstream_connect: Duration::from_secs(5),
            upstream_response: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

/// `[limits]`: how many and how large things may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Client connections of the process.
    pub connections: usize,
    /// Handshakes of the process that are computed or signed now; those that wait for their clients don't count.
    pub handshakes: usize,
    /// A request's head, in bytes.
    #[serde(with = "units::size")]
    pub header_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Concurrent streams of an HTTP/2 connection.
    pub http2_streams: u32,
    /// Connections that each worker keeps to each upstream without a request.
    pub upstream_idle_connections: usize,
    /// Connections that each worker has to each upstream, idle or not.
    pub upstream_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshakes: 4_000,
            header_bytes: 64 * 1024,
            headers: 100,
            http2_streams: 128,
            upstream_idle_connections: 64,
            upstream_connections: 10_000,
        }
    }
}

/// `[[site]]`: what is served under some host names.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SiteSettings {
    /// Names: exact ones, or `*.` and a domain.
    #[serde(deserialize_with = "host::one_or_more")]
    pub host: Vec<HostPattern>,
    /// PEM file of the certificate chain, the site's own certificate first.
    pub cert: PathBuf,
    /// Where requests go.
    pub to: UpstreamUrl,
}

impl Config {
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

    /// What serde can't see: values out of bounds, and rules between keys.
    fn check(&self, text: &str) -> Result<(), ConfigError> {
        validate::validate(self).map_err(|(site, message)| {
            let span = site.and_then(|site| validate::site_span(text, site));
            ConfigError::at(text, span, message)
        })
    }
}

#[cfg(test)]
mod tests;
