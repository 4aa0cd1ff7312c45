use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, StatusCode};
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::destination::{Destination, UpstreamName};
use super::upstream_url::{UpstreamScheme, UpstreamUrl};
use super::{Config, units};

/// Servers of one upstream; hashing looks at each of them for each request.
const MAX_SERVERS: usize = 256;

/// Largest weight of a server.
const MAX_WEIGHT: u32 = 1000;

/// `[[upstream]]`: servers that share the requests of the sites that name it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UpstreamSettings {
    /// What sites call it.
    pub name: UpstreamName,
    /// The servers.
    #[schemars(length(min = 1, max = 256))]
    pub servers: Vec<UpstreamUrl>,
    /// How much each server gets, in the same order; 1 for each if absent.
    #[serde(default)]
    pub weights: Vec<u32>,
    /// Who gets the next request.
    #[serde(default)]
    pub balance: Balance,
    /// What `balance = "hash"` hashes: `client-address`, `header:NAME` or `cookie:NAME`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub hash_by: HashBy,
    /// A cookie that brings a client back to the server that it had; none if absent.
    pub sticky_cookie: Option<CookieName>,
    /// How many more servers a request may be sent to.
    #[serde(default = "default_retries")]
    pub retries: usize,
    /// So many failures in a row eject a server; 0 ejects none.
    #[serde(default = "default_max_failures")]
    pub max_failures: u32,
    /// For how long, the first time; twice as long each further time, up to 5 minutes.
    #[serde(with = "units::duration", default = "default_eject")]
    #[schemars(with = "units::Duration")]
    pub eject: Duration,
    /// How long a server that came back takes to its full share.
    #[serde(with = "units::duration", default)]
    #[schemars(with = "units::Duration")]
    pub slow_start: Duration,
    /// Connections that each worker has to each server; `limits.upstream-connections` if absent.
    pub max_connections: Option<usize>,
    /// Requests of each worker that wait for a connection to a server.
    #[serde(default = "default_max_pending")]
    pub max_pending: usize,
    /// How long the addresses of a name are used before the name is looked up again.
    #[serde(with = "units::duration", default = "default_resolve_interval")]
    #[schemars(with = "units::Duration")]
    pub resolve_interval: Duration,
    /// How each server is asked whether it is well: `tcp`, or `http:` and a path; not at all if absent.
    #[schemars(with = "Option<String>")]
    pub health_check: Option<HealthCheck>,
    /// The status that an HTTP check wants; any 2xx or 3xx if absent.
    pub health_status: Option<HealthStatus>,
    /// From one check to the next.
    #[serde(with = "units::duration", default = "default_health_interval")]
    #[schemars(with = "units::Duration")]
    pub health_interval: Duration,
    /// How long a check may take.
    #[serde(with = "units::duration", default = "default_health_timeout")]
    #[schemars(with = "units::Duration")]
    pub health_timeout: Duration,
    /// So many good checks in a row bring a server back.
    #[serde(default = "default_health_rise")]
    pub health_rise: u32,
    /// So many bad checks in a row take a server out.
    #[serde(default = "default_health_fall")]
    pub health_fall: u32,
    /// PEM file of the trust anchors of `https://` servers; the system's if absent.
    pub tls_ca: Option<PathBuf>,
    /// The name that certificates of `https://` servers must have; the URL's host if absent.
    pub tls_name: Option<TlsName>,
    /// How each connection to a server says whose it is; not at all if absent.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// PEM file of the certificate, and those above it, that `https://` servers are shown; its key is in the engines. TLS 1.3 only then.
    pub client_cert: Option<PathBuf>,
}

/// The version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ProxyProtocol {
    /// The binary one.
    #[serde(rename = "v2")]
    V2,
}

/// How a server is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// It takes a connection, and makes the TLS handshake if it is `https://`.
    Tcp,
    /// It answers a GET of this path.
    Http(PathAndQuery),
}

/// A status of HTTP, from 100 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "u16")]
pub struct HealthStatus(pub(crate) StatusCode);

/// A DNS name or an IP address that a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct TlsName(pub(crate) ServerName<'static>);

/// Who gets the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The less busy one of two that are drawn by weight.
    #[default]
    PowerOfTwo,
    /// One after the other.
    RoundRobin,
    /// The least busy one.
    LeastConnections,
    /// The same one for the same client, header or cookie.
    Hash,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashBy {
    /// The client's address.
    #[default]
    ClientAddress,
    /// A header field.
    Header(HeaderName),
    /// A cookie.
    Cookie(CookieName),
}

/// A cookie's name: a token (RFC 6265, section 4.1.1).
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct CookieName(Box<str>);

impl UpstreamSettings {
    /// These servers, and the defaults of everything else.
    pub fn new(name: UpstreamName, servers: Vec<UpstreamUrl>) -> Self {
        Self {
            name,
            servers,
            weights: Vec::new(),
            balance: Balance::default(),
            hash_by: HashBy::default(),
            sticky_cookie: None,
            retries: default_retries(),
            max_failures: default_max_failures(),
            eject: default_eject(),
            slow_start: Duration::ZERO,
            max_connections: None,
            max_pending: default_max_pending(),
            resolve_interval: default_resolve_interval(),
            health_check: None,
            health_status: None,
            health_interval: default_health_interval(),
            health_timeout: default_health_timeout(),
            health_rise: default_health_rise(),
            health_fall: default_health_fall(),
            tls_ca: None,
            tls_name: None,
            proxy_protocol: None,
            client_cert: None,
        }
    }

    /// What stands for a server that a site names by itself.
    pub(crate) fn of_one(server: UpstreamUrl) -> Self {
        Self::new(UpstreamName::of_one(), vec![server])
    }

    /// What stands for an upstream that is not there.
    pub(crate) fn empty() -> Self {
        Self::new(UpstreamName::of_one(), Vec::new())
    }

    /// Its name, or the URL of a server that a site names by itself.
    pub(crate) fn label(&self) -> String {
        match (self.name.as_str(), self.servers.first()) {
            ("", Some(server)) => server.to_string(),
            (name, _) => name.to_owned(),
        }
    }

    /// The weight of the server at this place.
    pub(crate) fn weight(&self, at: usize) -> u32 {
        self.weights.get(at).copied().unwrap_or(1)
    }

    fn fault(&self) -> Option<String> {
        let name = &self.name;
        if self.servers.is_empty() {
            return Some(format!("upstream {name} has no servers"));
        }
        if self.servers.len() > MAX_SERVERS {
            return Some(format!("upstream {name} has more than {MAX_SERVERS} servers"));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = self.servers.iter().find(|server| !seen.insert(*server)) {
            return Some(format!("upstream {name} has {twice} twice; weights say who gets more"));
        }
        let (servers, weights) = (self.servers.len(), self.weights.len());
        if weights != 0 && weights != servers {
            return Some(format!("upstream {name} has {servers} servers and {weights} weights"));
        }
        if self.weights.iter().any(|weight| !(1..=MAX_WEIGHT).contains(weight)) {
            return Some(format!("upstream {name}: a weight is a number from 1 to {MAX_WEIGHT}"));
        }
        if self.hash_by != HashBy::default() && self.balance != Balance::Hash {
            return Some(format!("upstream {name}: hash-by goes with balance = \"hash\" only"));
        }
        let has_tls = self.servers.iter().any(|server| server.scheme() == UpstreamScheme::Https);
        if !has_tls && (self.tls_ca.is_some() || self.tls_name.is_some() || self.client_cert.is_some()) {
            return Some(format!(
                "upstream {name}: tls-ca, tls-name and client-cert go with https:// servers only"
            ));
        }
        if self.health_status.is_some() && !matches!(self.health_check, Some(HealthCheck::Http(_))) {
            return Some(format!(
                "upstream {name}: health-status goes with health-check = \"http:/path\" only"
            ));
        }
        let least = Duration::from_millis(1);
        if self.health_interval < least || self.health_timeout < least {
            return Some(format!("upstream {name}: health-interval and health-timeout are longer than zero"));
        }
        if self.health_rise == 0 || self.health_fall == 0 {
            return Some(format!("upstream {name}: health-rise and health-fall are at least 1"));
        }
        if self.max_connections == Some(0) {
            return Some(format!("upstream {name}: max-connections is 0: nothing could ever succeed"));
        }
        if self.max_connections.is_some_and(|most| most > 10_000_000) || self.max_pending > 10_000_000 {
            return Some(format!("upstream {name}: max-connections and max-pending are at most 10000000"));
        }
        None
    }
}

fn default_health_interval() -> Duration {
    Duration::from_secs(5)
}

fn default_health_timeout() -> Duration {
    Duration::from_secs(2)
}

fn default_health_rise() -> u32 {
    2
}

fn default_health_fall() -> u32 {
    3
}

fn default_retries() -> usize {
    2
}

fn default_max_failures() -> u32 {
    5
}

fn default_eject() -> Duration {
    Duration::from_secs(10)
}

fn default_max_pending() -> usize {
    1000
}

fn default_resolve_interval() -> Duration {
    Duration::from_secs(10)
}

/// What is wrong with the upstreams, and where in the text.
pub(super) fn validate(config: &Config, text: &str) -> Result<(), (Option<Range<usize>>, String)> {
    let mut names = HashSet::new();
    for (at, upstream) in config.upstreams.iter().enumerate() {
        let twice =
            (!names.insert(&upstream.name)).then(|| format!("there are two upstreams {}", upstream.name));
        if let Some(message) = twice.or_else(|| upstream.fault()) {
            return Err((Tables::of(text).upstream.get(at).map(Spanned::span), message));
        }
    }
    for (at, to) in config.destinations().enumerate() {
        if let Destination::Upstream(name) = to
            && !names.contains(name)
        {
            let message = format!(
                "there is no [[upstream]] named {name}; `to` is such a name, or a server like http://127.0.0.1:3000"
            );
            let tables = Tables::of(text);
            return Err((tables.site.iter().chain(&tables.route).nth(at).map(Spanned::span), message));
        }
    }
    Ok(())
}

/// Where tables are in the text.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tables {
    upstream: Vec<Spanned<IgnoredAny>>,
    site: Vec<Spanned<IgnoredAny>>,
    route: Vec<Spanned<IgnoredAny>>,
}

impl Tables {
    fn of(text: &str) -> Self {
        toml::from_str(text).unwrap_or_default()
    }
}

impl CookieName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        // The tokens of cookies are those of field names; lower and upper case differ.
        (text.len() <= 64 && HeaderName::from_bytes(text.as_bytes()).is_ok()).then(|| Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for HealthCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let check = match text.strip_prefix("http:") {
            None if text == "tcp" => Some(Self::Tcp),
            Some(path) if path.starts_with('/') && !path.starts_with("//") => {
                PathAndQuery::try_from(path).ok().map(Self::Http)
            }
            _ => None,
        };
        check.ok_or_else(|| {
            serde::de::Error::custom(format_args!("{text:?} is no check: write \"tcp\" or \"http:/path\""))
        })
    }
}

impl<'de> Deserialize<'de> for HealthStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = u16::deserialize(deserializer)?;
        let status = StatusCode::from_u16(code).ok().filter(|_| code < 600).map(Self);
        status.ok_or_else(|| {
            serde::de::Error::custom(format_args!("{code} is no status: write a number from 100 to 599"))
        })
    }
}

impl<'de> Deserialize<'de> for TlsName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = ServerName::try_from(text.as_str()).map(|name| Self(name.to_owned()));
        name.map_err(|_| {
            serde::de::Error::custom(format_args!("{text:?} is neither a DNS name nor an IP address"))
        })
    }
}

impl<'de> Deserialize<'de> for CookieName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!("{text:?} is not a cookie's name: write it like \"route\""))
        })
    }
}

impl<'de> Deserialize<'de> for HashBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let by = match text.split_once(':') {
            None if text == "client-address" => Some(Self::ClientAddress),
            Some(("header", name)) => HeaderName::from_bytes(name.as_bytes()).ok().map(Self::Header),
            Some(("cookie", name)) => CookieName::parse(name).map(Self::Cookie),
            _ => None,
        };
        by.ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "{text:?} can't be hashed: write \"client-address\", \"header:NAME\" or \"cookie:NAME\""
            ))
        })
    }
}
