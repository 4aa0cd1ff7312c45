//! What a reload replaces, as one immutable value.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::access_log::AccessLog;
use crate::acme::{AcmePlan, Challenges};
use crate::certificate_directory::CertificateDirectory;
use crate::certificate_files::{CertificateError, CertificateFiles};
use crate::chain::ChainError;
use crate::clients::{Clients, SharedBucket};
use crate::config::{
    Config, HostPattern, Limits, LogSettings, Network, RouteSettings, SiteSettings, Timeouts,
};
use crate::http_policy::HttpPolicy;
use crate::keys::KeySource;
use crate::metrics::{CountedGeneration, Metrics};
use crate::ocsp::Staple;
use crate::passthrough::Passthroughs;
use crate::proxy::StartError;
use crate::routes::{Route, Routes};
use crate::sites::{Handler, Site, Sites, Upstream};
use crate::tls::{Certificates, TicketKeySource, TicketKeys, Tls};
use crate::traces::Exporter;
use crate::upstream::ServerGroups;

/// One configuration in service: each new connection takes the one that is current, and keeps it to its end.
pub(crate) struct Generation {
    /// 1 for the one that the process began with.
    pub(crate) number: u64,
    pub(crate) tls: Arc<Tls>,
    pub(crate) sites: Arc<Sites>,
    pub(crate) ticket_keys: TicketKeySource,
    pub(crate) upstreams: ServerGroups,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    /// Stay over all generations.
    pub(crate) clients: Arc<Clients>,
    /// Where clients are sent that speak plain HTTP.
    pub(crate) redirect_port: u16,
    /// Whose connections begin with a PROXY header.
    load_balancers: Vec<Network>,
    /// Names of the admin listener.
    pub(crate) admin_hosts: Vec<HostPattern>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    /// Where spans go. Stays over reloads that change nothing of it.
    pub(crate) traces: Option<Arc<Exporter>>,
    /// Certificates to be ordered.
    pub(crate) acme: Option<Arc<AcmePlan>>,
    pub(crate) certificates: CertificateFiles,
    /// The sites whose certificates are looked up, and where. Those stay, with what they remember, over reloads.
    directories: Vec<LookedUp>,
    /// When the sites' certificates end, the soonest first; without those that are looked up.
    expiries: Vec<Expiry>,
    /// OCSP responses of the sites that name one.
    pub(crate) staples: Vec<Staple>,
    /// Certificates that could not be loaded, so that those from before are served on.
    pub(crate) stale: usize,
    _counted: CountedGeneration,
}

impl Generation {
    /// Whether a connection from there begins with a PROXY header, which says whose it is.
    pub(crate) fn is_load_balancer(&self, peer: IpAddr) -> bool {
        self.load_balancers.iter().any(|network| network.contains(peer))
    }

    /// The certificates that end first, so many at most, the soonest first. Of a site whose certificates are looked up: of those that
    /// were asked for lately.
    pub(crate) fn soonest(&self, most: usize) -> Vec<Expiry> {
        let looked_up = self.directories.iter().filter_map(|(site, directory)| {
            Some(Expiry { site: site.clone(), not_after: directory.first_end()? })
        });
        let mut soonest: Vec<_> = self.expiries.iter().take(most).cloned().chain(looked_up).collect();
        soonest.sort_by_key(|expiry| expiry.not_after);
        soonest.truncate(most);
        soonest
    }

    /// Sites that have certificates.
    pub(crate) fn site_count(&self) -> usize {
        self.expiries.len() + self.directories.len()
    }
}

/// A site's name, and where its certificates are looked up.
type LookedUp = (Box<str>, Arc<CertificateDirectory>);

/// When a site's certificate ends.
#[derive(Clone)]
pub(crate) struct Expiry {
    /// The site's name.
    pub(crate) site: Box<str>,
    pub(crate) not_after: OffsetDateTime,
}

/// What stays over all generations, and each is made from.
pub(crate) struct Foundation {
    pub(crate) keys: Arc<dyn KeySource>,
    /// Sites that code of this process answers for, by host.
    pub(crate) handlers: Vec<(String, Handler)>,
    /// A ticket of one generation is good in the next.
    pub(crate) tickets: Arc<TicketKeys>,
    pub(crate) metrics: Arc<Metrics>,
    /// An order may be under way when another generation begins.
    pub(crate) challenges: Arc<Challenges>,
}

impl Foundation {
    /// The generation of this configuration. Reads the certificates, and opens the access log.
    ///
    /// A certificate that can't be loaded any more is no error if `previous` serves one from the same file: it goes on,
    /// and the log says so. So one bad renewal does not hold up those of other sites.
    ///
    /// # Errors
    ///
    /// [`StartError`] if there is no way to serve it.
    pub(crate) fn generation(
        &self,
        config: &Config,
        previous: Option<&Generation>,
    ) -> Result<Generation, StartError> {
        let mut loading = Loading {
            files: CertificateFiles::default(),
            before: previous.map(|previous| &previous.certificates),
            stale: 0,
            directories: Vec::new(),
            directories_before: previous.map_or(&[], |previous| &previous.directories),
        };
        let (mut sites, mut expiries, mut staples) = (Sites::new(), Vec::new(), Vec::new());
        let upstreams =
            ServerGroups::new(config, Some(&*self.keys), previous.map(|previous| &previous.upstreams))
                .map_err(|(upstream, source)| StartError::Upstream { upstream, source })?;
        for settings in &config.sites {
            let (mut certificates, not_after) = loading.of(config, settings, self)?;
            expiries.extend(not_after.map(|not_after| Expiry { site: settings.name().into(), not_after }));
            staples.extend(Staple::of(settings, &mut certificates));
            let site = Site::new(settings.host.clone(), certificates, self.upstream(settings, &upstreams));
            let http = HttpPolicy::of(settings)
                .map_err(|source| StartError::ErrorPage { site: settings.name().to_owned(), source })?;
            sites.add(Site {
                policy: config
                    .tls
                    .policy(settings)
                    .map_err(|source| StartError::ClientAuth { site: settings.name().to_owned(), source })?,
                requests: self.metrics.requests.of(settings.name()),
                routes: routes_of(settings, &config.routes, &upstreams),
                max_requests: bucket_of(settings, previous.map(|previous| &*previous.sites)),
                body_bytes: settings
                    .body_bytes
                    .or(config.limits.body_bytes)
                    .map_or(u64::MAX, |size| size as u64),
                http,
                challenges: settings.cert.is_acme().then(|| Arc::clone(&self.challenges)),
                ..site
            });
        }
        let Loading { files: certificates, stale, directories, .. } = loading;
        if sites.is_empty() && config.passthroughs.is_empty() {
            tracing::warn!("no [[site]] is configured: every client will be refused");
        }
        if let Some(host) = &config.tls.default_site {
            sites.set_default(host);
        }
        sites.set_passthroughs(Passthroughs::new(&config.passthroughs));
        expiries.sort_by_key(|expiry| expiry.not_after);
        let sites = Arc::new(sites);
        let tls = Tls::new(&sites, &self.tickets).map_err(StartError::Tls)?;
        let access_log = self.access_log(&config.log, previous)?;
        let traces = previous.and_then(|previous| previous.traces.as_ref());
        let traces = Exporter::open(&config.traces, &self.metrics.spans, traces)?;
        Ok(Generation {
            number: previous.map_or(1, |previous| previous.number + 1),
            tls: Arc::new(tls),
            sites,
            ticket_keys: config.tls.ticket_keys,
            upstreams,
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            clients: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.clients)),
            redirect_port: config.proxy.redirect_port,
            load_balancers: config.proxy.accept_proxy_protocol_from.clone(),
            admin_hosts: config.proxy.admin_hosts.clone(),
            access_log,
            traces,
            acme: AcmePlan::of(config).map(Arc::new),
            certificates,
            directories,
            expiries,
            staples,
            stale,
            _counted: CountedGeneration::new(&self.metrics),
        })
    }

    /// The log from before, if it is the same.
    fn access_log(
        &self,
        settings: &LogSettings,
        previous: Option<&Generation>,
    ) -> Result<Option<Arc<AccessLog>>, StartError> {
        let before = previous.and_then(|previous| previous.access_log.as_ref());
        if let Some(same) = before.filter(|before| before.is_as(settings)) {
            return Ok(Some(Arc::clone(same)));
        }
        AccessLog::open(settings, &self.metrics.access_log).map_err(|source| StartError::AccessLog {
            path: settings.access.clone().unwrap_or_default(),
            source,
        })
    }

    fn upstream(&self, settings: &SiteSettings, upstreams: &ServerGroups) -> Upstream {
        let handler = self
            .handlers
            .iter()
            .find(|(host, _)| settings.host.iter().any(|pattern| pattern.as_str() == host.as_str()));
        match handler {
            Some((_, handler)) => Upstream::Handler(handler.clone()),
            None => Upstream::Http(upstreams.at(&settings.to)),
        }
    }
}

/// The site's requests are counted on where nothing of that has changed: else each reload would give all of them anew.
fn bucket_of(site: &SiteSettings, before: Option<&Sites>) -> Option<Arc<SharedBucket>> {
    let rate = site.max_requests?;
    let known =
        before.and_then(|before| before.find(site.name())).filter(|known| known.name() == site.name());
    let kept = known.and_then(|known| known.max_requests.as_ref()).filter(|bucket| bucket.is_at(rate));
    Some(kept.map_or_else(|| Arc::new(SharedBucket::new(rate)), Arc::clone))
}

fn routes_of(site: &SiteSettings, all: &[RouteSettings], upstreams: &ServerGroups) -> Routes {
    let own = all.iter().filter(|route| site.host.contains(&route.site));
    Routes::new(own.map(|route| Route::of(route, upstreams)).collect())
}

/// The certificates of a generation that is being made.
struct Loading<'a> {
    files: CertificateFiles,
    before: Option<&'a CertificateFiles>,
    stale: usize,
    directories: Vec<LookedUp>,
    directories_before: &'a [LookedUp],
}

impl Loading<'_> {
    /// A site's certificates, and when the first of them ends. What comes by ACME and is not there, or not good, will come.
    fn of(
        &mut self,
        config: &Config,
        settings: &SiteSettings,
        foundation: &Foundation,
    ) -> Result<(Certificates, Option<OffsetDateTime>), StartError> {
        if let Some(path) = settings.cert.directory() {
            let directory = self.directory(path, settings, foundation)?;
            self.directories.push((settings.name().into(), Arc::clone(&directory)));
            return Ok((Certificates::looked_up(directory), None));
        }
        let keys = &*foundation.keys;
        let (mut loaded, mut first_end) = (Vec::new(), None);
        let files = config.certificate_files(settings);
        for path in &files {
            let certificate = match self.files.load(path, keys, self.before) {
                Ok(certificate) => certificate,
                Err(error) => {
                    let kept = self.before.and_then(|before| self.files.keep_from(path, before));
                    let Some(kept) = kept else {
                        if settings.cert.is_acme() {
                            awaited(settings, path, &error);
                            return Ok((Certificates::pending(), None));
                        }
                        return Err(refusal(settings, error));
                    };
                    self.stale += 1;
                    tracing::error!(site = settings.name(), %error, "the certificate from before is kept");
                    kept
                }
            };
            let not_after = certificate.not_after;
            first_end = Some(first_end.map_or(not_after, |end: OffsetDateTime| end.min(not_after)));
            loaded.push(Arc::clone(&certificate.certified_key));
        }
        let certificates = Certificates::several(loaded).map_err(|source| StartError::Certificates {
            site: settings.name().to_owned(),
            path: files[source.at].clone(),
            source,
        })?;
        Ok((certificates, first_end))
    }

    fn directory(
        &self,
        path: &Path,
        settings: &SiteSettings,
        foundation: &Foundation,
    ) -> Result<Arc<CertificateDirectory>, StartError> {
        let mut known = self.directories.iter().chain(self.directories_before);
        if let Some((_, known)) = known.find(|(_, known)| known.path() == path) {
            return Ok(Arc::clone(known));
        }
        let (keys, lookups) = (Arc::clone(&foundation.keys), Arc::clone(&foundation.metrics.lookups));
        CertificateDirectory::open(path, keys, lookups).map_err(|source| {
            let source = ChainError::Unreadable { path: path.to_owned(), source };
            StartError::Chain { site: settings.name().to_owned(), source }
        })
    }
}

fn awaited(settings: &SiteSettings, path: &Path, error: &CertificateError) {
    let site = settings.name();
    if path.exists() {
        tracing::error!(site, %error, "no certificate until another one was ordered");
    } else {
        tracing::warn!(site, "no certificate yet: it is ordered, and clients are refused until it is there");
    }
}

fn refusal(settings: &SiteSettings, error: CertificateError) -> StartError {
    let site = settings.name().to_owned();
    match error {
        CertificateError::Chain(source) => StartError::Chain { site, source },
        CertificateError::Key(source) => StartError::Key { site, source },
    }
}
