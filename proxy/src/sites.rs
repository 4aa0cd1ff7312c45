use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::acme::Challenges;
use crate::clients::SharedBucket;
use crate::config::HostPattern;
use crate::connection::ClientConnection;
use crate::http_policy::HttpPolicy;
use crate::metrics::SiteRequests;
use crate::passthrough::{Passthrough, Passthroughs};
use crate::routes::Routes;
use crate::tls::{Certificates, TlsPolicy};
use crate::upstream::ServerGroup;

/// The sites that this proxy serves, found by host name. Immutable, shared by all workers.
#[derive(Default)]
pub struct Sites {
    /// Exact names, in lower case.
    exact: HashMap<Box<str>, Arc<Site>>,
    /// The part behind `*.`, in lower case.
    wildcard: HashMap<Box<str>, Arc<Site>>,
    /// Has all names that no other has: its host is `*`.
    any: Option<Arc<Site>>,
    /// Takes whoever asks for no name, or for one that is nobody's.
    default: Option<Arc<Site>>,
    /// Names that others serve.
    passthroughs: Passthroughs,
}

/// One site: the names it answers to, its certificate and where its requests go.
pub struct Site {
    /// All its names; the first one stands for the site in logs.
    pub hosts: Vec<HostPattern>,
    /// Certificate chains, each with a key that asks whoever holds it.
    pub certificates: Certificates,
    /// What it demands of TLS.
    pub policy: TlsPolicy,
    /// Where requests go.
    pub upstream: Upstream,
    /// What becomes of its requests.
    pub(crate) requests: Arc<SiteRequests>,
    /// Other upstreams for parts of it.
    pub routes: Routes,
    /// What it changes about requests and responses.
    pub http: HttpPolicy,
    /// How many requests it takes. Stays the same over reloads that leave it as it is.
    pub(crate) max_requests: Option<Arc<SharedBucket>>,
    /// Bytes of a request's body; `u64::MAX` if there is no limit.
    pub(crate) body_bytes: u64,
    /// What answers the authority that its certificate comes from, if it comes by ACME.
    pub(crate) challenges: Option<Arc<Challenges>>,
}

/// Where a site's requests go.
#[derive(Clone)]
pub enum Upstream {
    /// To HTTP servers.
    Http(Arc<ServerGroup>),
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
        Self {
            hosts,
            certificates,
            policy: TlsPolicy::default(),
            upstream,
            routes: Routes::default(),
            http: HttpPolicy::default(),
            max_requests: None,
            body_bytes: u64::MAX,
            challenges: None,
            requests: Arc::default(),
        }
    }

    /// The name that stands for the site in logs: its first host.
    pub fn name(&self) -> &str {
        self.hosts.first().map_or("", HostPattern::as_str)
    }

    /// Whether a connection that was made for this site is as good as one for the other: it would have the same
    /// certificate, and meets the same demands. HTTP/2 clients rely on it (RFC 9113, section 9.1.1).
    fn shares_connections_with(&self, other: &Self) -> bool {
        self.policy == other.policy && self.certificates.same_as(&other.certificates)
    }
}

impl Sites {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names that are not served here but passed on unread.
    pub(crate) fn set_passthroughs(&mut self, passthroughs: Passthroughs) {
        self.passthroughs = passthroughs;
    }

    /// Where connections for this name, in any case, are passed on to, if they are.
    pub(crate) fn passed_on(&self, name: &str) -> Option<&Arc<Passthrough>> {
        if self.passthroughs.is_empty() {
            return None;
        }
        let name = name.to_ascii_lowercase();
        self.passthroughs.find(name.strip_suffix('.').unwrap_or(&name), self)
    }

    /// Adds a site under all its hosts. A host that is taken already goes to the new site; the configuration refuses
    /// duplicates before.
    pub fn add(&mut self, site: Site) {
        let site = Arc::new(site);
        for host in &site.hosts {
            if host.is_any() {
                self.any = Some(Arc::clone(&site));
                continue;
            }
            match host.wildcard_suffix() {
                Some(suffix) => self.wildcard.insert(suffix.into(), Arc::clone(&site)),
                None => self.exact.insert(host.as_str().into(), Arc::clone(&site)),
            };
        }
    }

    /// The site of `host`: a name without a port, in any case. An exact name goes before a wildcard, and a wildcard stands
    /// for exactly one label, as in certificates (RFC 6125, section 6.4.3). What is left goes to the site with the host `*`.
    pub fn find(&self, host: &str) -> Option<&Arc<Site>> {
        self.find_listed(host).or(self.any.as_ref())
    }

    /// The same, without the site that has all names.
    pub(crate) fn find_listed(&self, host: &str) -> Option<&Arc<Site>> {
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_lowercase(&host.to_ascii_lowercase());
        }
        self.find_lowercase(host)
    }

    /// Lets the site of `host`, one of its hosts as it stands there, take whoever asks for no name or for one that is nobody's.
    pub fn set_default(&mut self, host: &HostPattern) {
        self.default = match host.wildcard_suffix() {
            Some(suffix) => self.wildcard.get(suffix).cloned(),
            None => self.exact.get(host.as_str()).cloned(),
        };
    }

    /// The site of a connection on which `sni` was asked for, if anything.
    pub(crate) fn for_sni(&self, sni: Option<&str>) -> Option<&Arc<Site>> {
        sni.and_then(|name| self.find(name)).or(self.default.as_ref())
    }

    /// The site that answers a request for `host` on a connection on which `sni` was asked for. None, so that the client shall
    /// come again on another connection (RFC 9110, section 15.5.20), if the site would not have been spoken to in the
    /// same way: whoever demands client certificates, or newer TLS, is not reached past his demands. Nor is a name that is passed
    /// on ever served: a browser that has a connection with a wildcard certificate would send its requests there.
    pub(crate) fn for_request(&self, sni: Option<&str>, host: &str) -> Option<&Arc<Site>> {
        if self.passed_on(host).is_some() {
            return None;
        }
        let named = sni.and_then(|name| self.find(name));
        match (self.find(host), named.or(self.default.as_ref())) {
            (Some(site), Some(connected)) => {
                let shared = if site.certificates.lookup().is_some() {
                    // Each of its names has another certificate.
                    Arc::ptr_eq(site, connected) && sni.is_some_and(|sni| is_same_name(sni, host))
                } else {
                    Arc::ptr_eq(site, connected) || connected.shares_connections_with(site)
                };
                shared.then_some(site)
            }
            // To the default site, names that are nobody's are its own.
            (None, Some(connected)) if named.is_none() => Some(connected),
            _ => None,
        }
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
        self.exact.values().chain(self.wildcard.values()).chain(&self.any)
    }

    /// Whether there is no site.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty() && self.any.is_none()
    }
}

/// Whether two names are the same, whatever their case, and with or without a dot at the end.
fn is_same_name(one: &str, other: &str) -> bool {
    let bare = |name: &'_ str| name.strip_suffix('.').unwrap_or(name).len();
    one[..bare(one)].eq_ignore_ascii_case(&other[..bare(other)])
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use rustls::pki_types::CertificateDer;
    use rustls::sign::CertifiedKey;

    use super::{Certificates, ServerGroup, Site, Sites, TlsPolicy, Upstream};
    use crate::tls::MinTls;

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

    pub(crate) fn sites(hosts: &[&[&str]]) -> Sites {
        let mut sites = Sites::new();
        for hosts in hosts {
            let certificates = Certificates::one(Arc::new(CertifiedKey::new(Vec::new(), Arc::new(NoKey))));
            let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
            let upstream = Upstream::Http(ServerGroup::to("http://127.0.0.1:1".parse().unwrap()).unwrap());
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

    #[test]
    fn a_connection_serves_the_sites_that_are_spoken_to_in_the_same_way() {
        let mut sites = Sites::new();
        for (host, certificate, min_version) in [
            ("a.example", 1, MinTls::Tls12),
            ("same.example", 1, MinTls::Tls12),
            ("strict.example", 1, MinTls::Tls13),
            ("other.example", 2, MinTls::Tls12),
        ] {
            let chain = vec![CertificateDer::from(vec![certificate])];
            let certificates = Certificates::one(Arc::new(CertifiedKey::new(chain, Arc::new(NoKey))));
            let upstream = Upstream::Http(ServerGroup::to("http://127.0.0.1:1".parse().unwrap()).unwrap());
            let site = Site::new(vec![host.parse().unwrap()], certificates, upstream);
            sites.add(Site { policy: TlsPolicy { min_version, ..TlsPolicy::default() }, ..site });
        }
        let request =
            |sites: &Sites, sni, host| sites.for_request(sni, host).map(|site| site.name().to_owned());
        let from = |host| request(&sites, Some("a.example"), host);
        assert_eq!(from("A.example").as_deref(), Some("a.example"));
        assert_eq!(from("same.example").as_deref(), Some("same.example"));
        for host in ["strict.example", "other.example", "nobodys.example"] {
            assert_eq!(from(host), None, "{host}");
        }
        assert_eq!(request(&sites, None, "a.example"), None);

        sites.set_default(&"a.example".parse().unwrap());
        for sni in [None, Some("nobodys.example")] {
            assert_eq!(sites.for_sni(sni).unwrap().name(), "a.example");
            assert_eq!(
                request(&sites, sni, "192.0.2.1").as_deref(),
                Some("a.example"),
                "the default site's own"
            );
            assert_eq!(request(&sites, sni, "same.example").as_deref(), Some("same.example"));
            assert_eq!(request(&sites, sni, "strict.example"), None);
        }
        assert_eq!(request(&sites, Some("same.example"), "192.0.2.1"), None);
    }
}
