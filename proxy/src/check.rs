//! `hsm-proxy check`: would this configuration work, and for how long?

mod certificate;
mod directory;
mod proof;
mod surroundings;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use crate::acme;
use crate::chain::Chain;
use crate::config::{Config, HostPattern, SiteSettings, UpstreamSettings};
use crate::ocsp;
use crate::signer::EngineKeys;
use crate::traces::Exporter;

use proof::End;

/// What was found for each site, in the configuration's order.
#[derive(Debug, Clone)]
pub struct Report {
    /// One for each certificate of each `[[site]]`, then for each `client-cert` of an `[[upstream]]`, and one
    /// for `[traces]` if what that names can't be used.
    pub sites: Vec<SiteReport>,
    /// What should be looked at beside the sites: upstreams that can't be reached, files that others may change.
    pub warnings: Vec<String>,
}

/// What was found for one certificate of a site.
#[derive(Debug, Clone, Default)]
pub struct SiteReport {
    /// All its hosts, with commas; or the upstream.
    pub hosts: String,
    /// The certificate's file, if the site has more than one.
    pub file: Option<PathBuf>,
    /// The key's algorithm; empty if there is no certificate to tell.
    pub key: String,
    /// Whole days until the certificate expires.
    pub days_left: Option<i64>,
    /// How long it took to prove the key, connecting and logging in (at the first site) included.
    pub proof: Option<Duration>,
    /// What will not work, one line each.
    pub errors: Vec<String>,
    /// What works and should still be looked at.
    pub warnings: Vec<String>,
}

/// Looks at every site, and every certificate that upstreams are shown: chain, names, expiry, and a signature by an engine that the certificate verifies; and at what the
/// sites rely on: connects to each upstream and the authority of certificates, and looks who may change the files. `file` is the
/// configuration's.
pub fn check(config: &Config, file: &Path, keys: &EngineKeys, now: OffsetDateTime) -> Report {
    let certificates = config.sites.iter().flat_map(|site| {
        let files = config.certificate_files(site).into_iter();
        files.map(move |path| (site, path))
    });
    let sites = certificates.map(|(site, path)| check_certificate(config, site, &path, keys, now));
    let looked_up = config.sites.iter().filter_map(|site| Some((site, site.cert.directory()?)));
    let looked_up = looked_up.flat_map(|(site, path)| directory::check(config, site, path, keys, now));
    let shown =
        config.upstreams.iter().filter_map(|upstream| Some((upstream, upstream.client_cert.as_ref()?)));
    let shown = shown.map(|(upstream, path)| check_shown(upstream, path, keys, now));
    let traces = Exporter::check(&config.traces).err().map(|error| SiteReport {
        hosts: "[traces]".to_owned(),
        errors: vec![error.to_string()],
        ..SiteReport::default()
    });
    let sites = sites.chain(looked_up).chain(shown).chain(traces).collect();
    let mut warnings: Vec<_> = surroundings::open_files(config, file)
        .into_iter()
        .chain(surroundings::unreachable_upstreams(config))
        .chain(Exporter::doubt(&config.traces))
        .collect();
    if config.sites.iter().any(|site| site.cert.is_acme())
        && let Err(reason) = acme::probe(&config.acme)
    {
        warnings.push(format!("acme.directory: {reason}"));
    }
    Report { sites, warnings }
}

fn hosts(site: &SiteSettings) -> String {
    let hosts: Vec<_> = site.host.iter().map(HostPattern::as_str).collect();
    hosts.join(", ")
}

/// The certificate that the servers of an upstream are shown.
fn check_shown(
    upstream: &UpstreamSettings,
    path: &Path,
    keys: &EngineKeys,
    now: OffsetDateTime,
) -> SiteReport {
    let hosts = format!("upstream {}", upstream.name);
    let mut report = SiteReport { hosts, file: Some(path.to_owned()), ..SiteReport::default() };
    match Chain::load(path) {
        Ok(chain) => prove(End::Client, &chain, upstream.name.as_str(), keys, now, &mut report),
        Err(error) => report.errors.push(error.to_string()),
    }
    report
}

/// What holds of the certificates of both ends.
fn prove(
    end: End,
    chain: &Chain,
    name: &str,
    keys: &EngineKeys,
    now: OffsetDateTime,
    report: &mut SiteReport,
) {
    report.days_left = Some((chain.not_after() - now).whole_days());
    certificate::inspect(end, chain, now, report);
    match keys.key(chain.spki()) {
        Ok(key) => {
            report.key = key.algorithm().to_string();
            match proof::prove(end, &key, chain, name) {
                Ok(took) => report.proof = Some(took),
                Err(error) => report.errors.push(error.to_string()),
            }
        }
        Err(error) => report.errors.push(error.to_string()),
    }
}

fn check_certificate(
    config: &Config,
    site: &SiteSettings,
    path: &Path,
    keys: &EngineKeys,
    now: OffsetDateTime,
) -> SiteReport {
    let file = (site.cert.files().len() > 1).then(|| path.to_owned());
    let mut report = SiteReport { hosts: hosts(site), file, ..SiteReport::default() };
    if let Err(error) = config.tls.policy(site) {
        report.errors.push(error.to_string());
    }
    if site.cert.is_acme() && !path.exists() {
        report.warnings.push("there is no certificate yet: it will be ordered".to_owned());
        return report;
    }
    let chain = match Chain::load(path) {
        Ok(chain) => chain,
        Err(error) => {
            report.errors.push(error.to_string());
            return report;
        }
    };
    for host in site.host.iter().filter(|host| !chain.covers(host)) {
        let names = chain.names().join(", ");
        report.errors.push(format!("the certificate is not for {host}; its names: {names}"));
    }
    report.warnings.extend(ocsp::inspect(site, &chain, now));
    prove(End::Server, &chain, site.name(), keys, now, &mut report);
    report
}

impl Report {
    /// Whether every site works.
    pub fn is_good(&self) -> bool {
        self.sites.iter().all(|site| site.errors.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sites.is_empty() {
            writeln!(f, "no [[site]] is configured")?;
        }
        self.sites.iter().try_for_each(|site| site.fmt(f))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "{:8}{warning}", "warning"))
    }
}

/// One line, and an indented one for each problem.
impl fmt::Display for SiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (&self.errors[..], &self.warnings[..]) {
            ([], []) => "ok",
            ([], _) => "warning",
            _ => "FAILED",
        };
        write!(f, "{verdict:8}{}", self.hosts)?;
        if let Some(file) = &self.file {
            write!(f, ", {}", file.display())?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(days) = self.days_left {
            match u64::try_from(days) {
                Ok(left) => write!(f, ", {left} days left")?,
                Err(_) => write!(f, ", expired {} days ago", days.unsigned_abs())?,
            }
        }
        if self.proof.is_some() {
            f.write_str(", key proven")?;
        }
        writeln!(f)?;
        self.errors.iter().try_for_each(|error| writeln!(f, "        error: {error}"))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "        warning: {warning}"))
    }
}

#[cfg(test)]
mod tests;
