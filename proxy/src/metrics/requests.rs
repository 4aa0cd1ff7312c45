use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::quoted;

/// Sites that are counted apart, over all reloads; more share one row.
const SITES: usize = 1_000;

/// The row of requests that are no site's.
const NO_SITE: &str = "";

/// The row of the sites beyond [`SITES`].
const OTHERS: &str = "(others)";

/// Requests, by site and status.
#[derive(Default)]
pub(crate) struct Requests {
    by_site: Mutex<BTreeMap<Box<str>, Arc<SiteRequests>>>,
    pub(crate) no_site: Arc<SiteRequests>,
}

/// Requests of one site.
#[derive(Default)]
pub(crate) struct SiteRequests {
    by_class: [AtomicU64; CLASSES.len()],
    /// Bytes of responses' bodies.
    bytes: AtomicU64,
    /// Handshakes that its signing budget had no room for.
    refused_handshakes: AtomicU64,
}

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "client-gone"];

impl Requests {
    /// The counters of a site, which stay the same over reloads.
    pub(crate) fn of(&self, site: &str) -> Arc<SiteRequests> {
        let mut by_site = self.by_site.lock().unwrap_or_else(PoisonError::into_inner);
        let row = if by_site.len() < SITES || by_site.contains_key(site) { site } else { OTHERS };
        Arc::clone(by_site.entry(row.into()).or_default())
    }

    /// Of all sites, and of none: all requests, and those whose status was 5xx.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let by_site = self.by_site.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = by_site.values().chain([&self.no_site]).map(|counts| (counts.all(), counts.of_class(5)));
        rows.fold((0, 0), |(all, errors), (more, more_errors)| (all + more, errors + more_errors))
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let by_site = self.by_site.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<_> = by_site
            .iter()
            .map(|(site, counts)| (&**site, counts))
            .chain([(NO_SITE, &self.no_site)])
            .collect();
        writeln!(out, "# HELP hsm_proxy_requests_total Requests by site and class of the status.")?;
        writeln!(out, "# TYPE hsm_proxy_requests_total counter")?;
        for (site, counts) in &rows {
            for (class, count) in CLASSES.iter().zip(&counts.by_class) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let site = quoted(site);
                    writeln!(out, "hsm_proxy_requests_total{{site={site},status=\"{class}\"}} {count}")?;
                }
            }
        }
        writeln!(out, "# HELP hsm_proxy_response_bytes_total Bytes of the bodies sent to clients.")?;
        writeln!(out, "# TYPE hsm_proxy_response_bytes_total counter")?;
        for (site, counts) in &rows {
            let bytes = counts.bytes.load(Relaxed);
            if bytes > 0 {
                writeln!(out, "hsm_proxy_response_bytes_total{{site={}}} {bytes}", quoted(site))?;
            }
        }
        writeln!(out, "# HELP hsm_proxy_refused_handshakes_total Handshakes beyond limits.signature-queue.")?;
        writeln!(out, "# TYPE hsm_proxy_refused_handshakes_total counter")?;
        for (site, counts) in &rows {
            let refused = counts.refused_handshakes.load(Relaxed);
            if refused > 0 {
                writeln!(out, "hsm_proxy_refused_handshakes_total{{site={}}} {refused}", quoted(site))?;
            }
        }
        Ok(())
    }
}

impl SiteRequests {
    /// All requests.
    pub(crate) fn all(&self) -> u64 {
        self.by_class.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Requests with a status of this class, 1 to 5.
    pub(crate) fn of_class(&self, class: usize) -> u64 {
        self.by_class[class - 1].load(Relaxed)
    }

    /// Counts a handshake that was refused because too many wait.
    pub(crate) fn handshake_refused(&self) {
        self.refused_handshakes.fetch_add(1, Relaxed);
    }

    /// Counts a request that has ended; no status if the client was gone before there was one.
    pub(crate) fn count(&self, status: Option<u16>, bytes: u64) {
        let class = match status {
            Some(status) => usize::from(status / 100).clamp(1, 5) - 1,
            None => CLASSES.len() - 1,
        };
        self.by_class[class].fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_counted_apart_up_to_a_limit_and_reloads_change_nothing() {
        let requests = Requests::default();
        requests.of("a.example").count(Some(204), 10);
        requests.of("a.example").count(Some(599), 0);
        requests.of("a.example").count(None, 0);
        requests.no_site.count(Some(421), 5);
        for site in 0..2 * SITES {
            requests.of(&format!("{site}.example")).count(Some(200), 0);
        }
        let mut text = String::new();
        requests.write(&mut text).unwrap();
        for line in [
            "hsm_proxy_requests_total{site=\"a.example\",status=\"2xx\"} 1\n",
            "hsm_proxy_requests_total{site=\"a.example\",status=\"5xx\"} 1\n",
            "hsm_proxy_requests_total{site=\"a.example\",status=\"client-gone\"} 1\n",
            "hsm_proxy_requests_total{site=\"\",status=\"4xx\"} 1\n",
            "hsm_proxy_requests_total{site=\"(others)\",status=\"2xx\"} 1001\n",
            "hsm_proxy_response_bytes_total{site=\"a.example\"} 10\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
