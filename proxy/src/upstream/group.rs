use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::COOKIE;

use super::checks::Check;
use super::health::{Health, Rules};
use super::shown;
use super::tls::{ClientTls, TrustError};
use crate::config::{
    Balance, CookieName, HashBy, ProxyProtocol, UpstreamScheme, UpstreamSettings, UpstreamUrl,
};
use crate::keys::KeySource;

/// Servers that share the requests of some sites, as `[[upstream]]` says; immutable, shared by all workers.
pub struct ServerGroup {
    /// The upstream's name, or the only server's URL.
    pub(super) name: Box<str>,
    pub(super) members: Vec<Member>,
    pub(super) balance: Balance,
    pub(super) hash_by: HashBy,
    pub(super) sticky_cookie: Option<CookieName>,
    pub(super) retries: usize,
}

/// A server, and what this group knows of it.
pub(super) struct Member {
    pub(super) server: Arc<Server>,
    pub(super) weight: u32,
    /// Of the server's URL: the same in every process.
    pub(super) hash: u64,
}

/// One server of an upstream. The same value goes on over reloads that change nothing of it, and so do its connections.
pub(super) struct Server {
    /// Unlike that of any other server of this process.
    pub(super) id: u64,
    pub(super) url: UpstreamUrl,
    pub(super) health: Health,
    pub(super) options: Options,
    /// For `https://`.
    pub(super) tls: Option<Arc<ClientTls>>,
    rules: Rules,
}

/// How connections to a server are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Of each worker; the limit of the process's configuration if absent.
    pub(super) max_connections: Option<usize>,
    pub(super) max_pending: usize,
    pub(super) resolve_interval: Duration,
    pub(super) check: Option<Check>,
    /// Whether connections begin with a PROXY header, so that each serves one client.
    pub(super) introduces: bool,
}

impl ServerGroup {
    /// One server, with the defaults of an `[[upstream]]`.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it is to be reached by TLS, and the system has no trust anchors.
    pub fn to(url: UpstreamUrl) -> Result<Arc<Self>, TrustError> {
        Self::of(&UpstreamSettings::of_one(url), None)
    }

    /// A group without a server, which answers every request with 503.
    pub(super) fn none() -> Arc<Self> {
        Arc::new(Self::build(&UpstreamSettings::empty(), None, None))
    }

    /// The group that `settings` describes; servers that are in `before` in the same way go on.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if there are no trust anchors for servers that are reached by TLS.
    pub(crate) fn of(settings: &UpstreamSettings, before: Option<&Self>) -> Result<Arc<Self>, TrustError> {
        Self::with_keys(settings, None, before)
    }

    /// The same, with the keys of the certificates that servers are shown.
    ///
    /// # Errors
    ///
    /// [`TrustError`], also if a certificate can't be read, or its key is not to be had.
    pub(crate) fn with_keys(
        settings: &UpstreamSettings,
        keys: Option<&dyn KeySource>,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, TrustError> {
        let tls = if settings.servers.iter().any(|server| server.scheme() == UpstreamScheme::Https) {
            let name = settings.tls_name.as_ref().map(|name| name.0.clone());
            let shown = match &settings.client_cert {
                Some(path) => Some(shown::load(path, keys.ok_or(TrustError::NoKeys)?)?),
                None => None,
            };
            Some(Arc::new(ClientTls::new(settings.tls_ca.as_deref(), name, shown)?))
        } else {
            None
        };
        Ok(Arc::new(Self::build(settings, tls.as_ref(), before)))
    }

    /// Its name, or the URL of its only server.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn build(settings: &UpstreamSettings, tls: Option<&Arc<ClientTls>>, before: Option<&Self>) -> Self {
        let rules = Rules {
            max_failures: settings.max_failures,
            eject: settings.eject,
            slow_start: settings.slow_start,
        };
        let options = Options {
            max_connections: settings.max_connections,
            max_pending: settings.max_pending,
            resolve_interval: settings.resolve_interval,
            introduces: settings.proxy_protocol == Some(ProxyProtocol::V2),
            check: settings.health_check.clone().map(|what| Check {
                what,
                status: settings.health_status.map(|status| status.0),
                interval: settings.health_interval,
                timeout: settings.health_timeout,
                rise: settings.health_rise,
                fall: settings.health_fall,
            }),
        };
        let member = |(at, url): (usize, &UpstreamUrl)| {
            let tls = tls.filter(|_| url.scheme() == UpstreamScheme::Https);
            let kept = before.into_iter().flat_map(|before| &before.members).find(|member| {
                let server = &member.server;
                server.url == *url
                    && server.tls.as_ref() == tls
                    && server.rules == rules
                    && server.options == options
            });
            let server = match kept {
                Some(member) => Arc::clone(&member.server),
                None => Arc::new(Server::new(url.clone(), rules.clone(), options.clone(), tls.cloned())),
            };
            Member { server, weight: settings.weight(at), hash: hash(url.to_string().as_bytes()) }
        };
        Self {
            name: settings.label().into(),
            members: settings.servers.iter().enumerate().map(member).collect(),
            balance: settings.balance,
            hash_by: settings.hash_by.clone(),
            sticky_cookie: settings.sticky_cookie.clone(),
            retries: settings.retries,
        }
    }

    /// What the balance hashes of a request.
    pub(super) fn hash_of(&self, headers: &HeaderMap, client: IpAddr) -> Option<u64> {
        if self.balance != Balance::Hash {
            return None;
        }
        let of_client = || match client.to_canonical() {
            IpAddr::V4(address) => hash(&address.octets()),
            IpAddr::V6(address) => hash(&address.octets()),
        };
        let found = match &self.hash_by {
            HashBy::ClientAddress => None,
            HashBy::Header(name) => headers.get(name).map(|value| hash(value.as_bytes())),
            HashBy::Cookie(name) => cookie(headers, name).map(hash),
        };
        Some(found.unwrap_or_else(of_client))
    }

    /// The server that the client's cookie names.
    pub(super) fn stuck_to(&self, headers: &HeaderMap) -> Option<usize> {
        let value = cookie(headers, self.sticky_cookie.as_ref()?)?;
        self.members.iter().position(|member| member.cookie().as_bytes() == value)
    }

    /// The field that brings the client back to this server.
    pub(super) fn set_cookie(&self, at: usize) -> Option<String> {
        let name = self.sticky_cookie.as_ref()?.as_str();
        let value = self.members.get(at)?.cookie();
        Some(format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax"))
    }
}

impl Member {
    /// What a sticky cookie calls it.
    fn cookie(&self) -> String {
        format!("{:016x}", self.hash)
    }
}

impl Server {
    fn new(url: UpstreamUrl, rules: Rules, options: Options, tls: Option<Arc<ClientTls>>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Relaxed);
        Self { id, url, health: Health::new(rules.clone()), options, tls, rules }
    }
}

/// The first eight bytes of SHA-256: the same in every process and version, unlike those of the standard library.
fn hash(bytes: &[u8]) -> u64 {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().take(8).fold(0, |hash, &byte| (hash << 8) | u64::from(byte))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &CookieName) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    pairs
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_str().as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_request_is_hashed_by_what_the_configuration_names() {
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut headers = HeaderMap::new();
        let of = |by: &str, headers: &HeaderMap, client| {
            let keys = format!("balance = \"hash\"\nhash-by = \"{by}\"");
            let text = format!("[[upstream]]\nname = \"a\"\nservers = [\"http://b\"]\n{keys}");
            let settings = Config::parse(&text).unwrap().upstreams.remove(0);
            ServerGroup::of(&settings, None).unwrap().hash_of(headers, client).unwrap()
        };
        assert_ne!(of("client-address", &headers, one), of("client-address", &headers, other));
        for (by, name, value) in [("header:x-user", "x-user", "7"), ("cookie:user", "cookie", "a=b; user=7")]
        {
            assert_eq!(of(by, &headers, one), of("client-address", &headers, one), "{by}: there is none");
            headers.insert(name, value.parse().unwrap());
            assert_eq!(of(by, &headers, one), of(by, &headers, other), "{by}");
            assert_eq!(of(by, &headers, one), hash(b"7"), "{by}");
        }
    }
}
