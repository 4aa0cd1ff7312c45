use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{HostPattern, UpstreamUrl};
use crate::connection::ClientConnection;
use crate::tls::Certificates;

/// The sites that this proxy serves, found by host name. Immutable, shared by all workers.
#[derive(Default)]
pub struct Sites {
    /// Exact names, in lower case.
    exact: HashMap<Box<str>, Arc<Site>>,
    /// The part behind `*.`, in lower case.
    wildcard: HashMap<Box<str>, Arc<Site>>,
}

/// One site: the names it answers to, its certificate and where its requests go.
pub struct Site {
    /// All its names; the first one stands for the site in logs.
    pub hosts: Vec<HostPattern>,
    /// Certificate chains, each with a key that asks whoever holds it.
    pub certificates: Certificates,
    /// Where requests go.
    pub upstream: Upstream,
}

/// Where a site's requests go.
#[derive(Clone)]
pub enum Upstream {
    /// To an HTTP/1.1 server.
    Http(UpstreamUrl),
    /// To code of this process: the page of `hsm-proxy dev`, tests.
    Handler(Handler),
}

/// Answers requests inside the proxy. Called on the worker's thread: it must not block.
#[derive(Clone)]
pub struct Handler(Arc<Answer>);

type Answer = dyn Fn(&ClientConnection, &http::request::Parts) -> http::Response<Bytes> + Send + Sync;

impl Handler {
    /// A handler that calls `answer` for each request, whose body is discarded.
    pub fn new(
        answer: impl Fn(&ClientConnection, &http::request::Parts) -> http::Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(answer))
    }

    /// The response to one request.
    pub fn answer(
        &self,
        connection: &ClientConnection,
        request: &http::request::Parts,
    ) -> http::Response<Bytes> {
        (self.0)(connection, request)
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler(…)")
    }
}

impl Site {
    /// A site with the defaults of everything else.
    pub fn new(hosts: Vec<HostPattern>, certificates: Certificates, upstream: Upstream) -> Self {
        Self { hosts, certificates, upstream }
    }

    /// The name that stands for the site in logs: its first host.
    pub fn name(&self) -> &str {
        self.hosts.first().map_or("", HostPattern::as_str)
    }
}

impl Sites {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a site under all its hosts. A host that is taken already goes to the new site; the configuration refuses
    /// duplicates before.
    pub fn add(&mut self, site: Site) {
        let site = Arc::new(site);
        for host in &site.hosts {
            match host.wildcard_suffix() {
                Some(suffix) => self.wildcard.insert(suffix.into(), Arc::clone(&site)),
                None => self.exact.insert(host.as_str().into(), Arc::clone(&site)),
            };
        }
    }

    /// The site of `host`: a name without a port, in any case. An exact name goes before a wildcard, and a wildcard stands
    /// for exactly one label, as in certificates (RFC 6125, section 6.4.3).
    pub fn find(&self, host: &str) -> Option<&Arc<Site>> {
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_lowercase(&host.to_ascii_lowercase());
        }
        self.find_lowercase(host)
    }

    fn find_lowercase(&self, host: &str) -> Option<&Arc<Site>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.exact.get(host).or_else(|| {
            let (label, suffix) = host.split_once('.')?;
            if label.is_empty() { None } else { self.wildcard.get(suffix) }
        })
    }

    /// All hosts of all sites, each with its site, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.exact.values().chain(self.wildcard.values())
    }

    /// Whether there is no site.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::sign::CertifiedKey;

    use super::{Certificates, Site, Sites, Upstream};

    #[derive(Debug)]
    struct NoKey;

    impl rustls::sign::SigningKey for NoKey {
        fn choose_scheme(&self, _: &[rustls::SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
            None
        }

        fn algorithm(&self) -> rustls::SignatureAlgorithm {
            rustls::SignatureAlgorithm::ECDSA
        }
    }

    fn sites(hosts: &[&[&str]]) -> Sites {
        let mut sites = Sites::new();
        for hosts in hosts {
            let certificates = Certificates::one(Arc::new(CertifiedKey::new(Vec::new(), Arc::new(NoKey))));
            let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
            let upstream = Upstream::Http("http://127.0.0.1:1".parse().unwrap());
            sites.add(Site::new(hosts, certificates, upstream));
        }
        sites
    }

    #[test]
    fn exact_goes_before_wildcard_and_a_wildcard_is_one_label() {
        let sites = sites(&[&["example.org", "www.example.org"], &["*.example.org"], &["*.a.example.org"]]);
        for (host, site) in [
            ("example.org", Some("example.org")),
            ("WWW.Example.ORG", Some("example.org")),
            ("www.example.org.", Some("example.org")),
            ("shop.example.org", Some("*.example.org")),
            ("a.example.org", Some("*.example.org")),
            ("x.a.example.org", Some("*.a.example.org")),
            ("x.b.example.org", None),
            (".example.org", None),
            ("*.example.org", Some("*.example.org")),
            ("org", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(sites.find(host).map(|site| site.name()), site, "{host}");
        }
    }
}
