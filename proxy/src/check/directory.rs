//! Directories of certificates, of which nobody wants to see all.

use std::path::Path;

use time::OffsetDateTime;

use super::proof::End;
use super::{SiteReport, hosts, prove};
use crate::certificate_directory::host_of;
use crate::chain::Chain;
use crate::config::{Config, HostPattern, SiteSettings};
use crate::signer::EngineKeys;

/// Files that are tried.
const SAMPLES: usize = 20;

/// Entries that are looked at for them.
const LOOKED_AT: usize = 1_000;

/// One report for each of the first files of the directory; one about the directory if there is none.
pub(super) fn check(
    config: &Config,
    site: &SiteSettings,
    directory: &Path,
    keys: &EngineKeys,
    now: OffsetDateTime,
) -> Vec<SiteReport> {
    let mut about =
        SiteReport { hosts: hosts(site), file: Some(directory.to_owned()), ..SiteReport::default() };
    if let Err(error) = config.tls.policy(site) {
        about.errors.push(error.to_string());
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            about.errors.push(format!("{}: {error}", directory.display()));
            return vec![about];
        }
    };
    let mut reports = Vec::new();
    for entry in entries.take(LOOKED_AT).flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".pem")) else { continue };
        match host_of(name) {
            Some(host) => reports.push(check_file(&entry.path(), &host, keys, now)),
            None => about.warnings.push(format!(
                "{name} is never served: the name must be that of a host in lower case, or _. and a domain"
            )),
        }
        if reports.len() + about.warnings.len() == SAMPLES {
            break;
        }
    }
    if reports.is_empty() && about.warnings.is_empty() {
        about.warnings.push("there is no certificate in this directory".to_owned());
    }
    if !about.errors.is_empty() || !about.warnings.is_empty() {
        reports.insert(0, about);
    }
    reports
}

fn check_file(path: &Path, host: &HostPattern, keys: &EngineKeys, now: OffsetDateTime) -> SiteReport {
    let mut report =
        SiteReport { hosts: host.to_string(), file: Some(path.to_owned()), ..SiteReport::default() };
    match Chain::load(path) {
        Ok(chain) => {
            if !chain.covers(host) {
                let names = chain.names().join(", ");
                report.errors.push(format!("the certificate is not for {host}; its names: {names}"));
            }
            prove(End::Server, &chain, host.as_str(), keys, now, &mut report);
        }
        Err(error) => report.errors.push(error.to_string()),
    }
    report
}
