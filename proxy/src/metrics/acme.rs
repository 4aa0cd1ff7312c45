use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::quoted;

/// What became of orders by ACME. Locked by who orders and who scrapes, never for a connection.
#[derive(Default)]
pub(crate) struct AcmeMetrics {
    sites: Mutex<BTreeMap<Box<str>, Orders>>,
}

#[derive(Default)]
struct Orders {
    /// When the last attempt began, and whether there was a certificate in the end.
    last: Option<(SystemTime, bool)>,
    next: Option<SystemTime>,
    succeeded: u64,
    failed: u64,
}

impl AcmeMetrics {
    pub(crate) fn attempted(&self, site: &str, began: SystemTime, succeeded: bool) {
        let mut sites = self.sites();
        let orders = sites.entry(site.into()).or_default();
        orders.last = Some((began, succeeded));
        *(if succeeded { &mut orders.succeeded } else { &mut orders.failed }) += 1;
    }

    pub(crate) fn next(&self, site: &str, at: SystemTime) {
        self.sites().entry(site.into()).or_default().next = Some(at);
    }

    /// Forgets the others.
    pub(crate) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.sites().retain(|site, _| is_there(site));
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let sites = self.sites();
        writeln!(
            out,
            "# HELP hsm_proxy_acme_orders_total Attempts to get a certificate by ACME, by result."
        )?;
        writeln!(out, "# TYPE hsm_proxy_acme_orders_total counter")?;
        for (site, orders) in &*sites {
            for (result, count) in [("success", orders.succeeded), ("failure", orders.failed)] {
                let site = quoted(site);
                writeln!(out, "hsm_proxy_acme_orders_total{{site={site},result=\"{result}\"}} {count}")?;
            }
        }
        let last = |orders: &Orders| orders.last.map(|(at, _)| unix(at));
        let success = |orders: &Orders| orders.last.map(|(_, succeeded)| u64::from(succeeded));
        let next = |orders: &Orders| orders.next.map(unix);
        gauge(
            out,
            &sites,
            "last_attempt_timestamp_seconds",
            "When the last attempt began, in Unix time.",
            last,
        )?;
        gauge(
            out,
            &sites,
            "last_attempt_success",
            "Whether the last attempt brought a certificate.",
            success,
        )?;
        gauge(out, &sites, "next_attempt_timestamp_seconds", "When the next one is due, in Unix time.", next)
    }

    fn sites(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Orders>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gauge(
    out: &mut String,
    sites: &BTreeMap<Box<str>, Orders>,
    name: &str,
    help: &str,
    value: impl Fn(&Orders) -> Option<u64>,
) -> fmt::Result {
    writeln!(out, "# HELP hsm_proxy_acme_{name} {help}\n# TYPE hsm_proxy_acme_{name} gauge")?;
    for (site, orders) in sites {
        if let Some(value) = value(orders) {
            writeln!(out, "hsm_proxy_acme_{name}{{site={}}} {value}", quoted(site))?;
        }
    }
    Ok(())
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn attempts_are_written_for_the_sites_that_are_there() {
        let metrics = AcmeMetrics::default();
        let mut text = String::new();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        metrics.attempted("a.example", at(10), false);
        metrics.attempted("a.example", at(20), true);
        metrics.attempted("gone.example", at(30), true);
        metrics.next("a.example", at(40));
        metrics.keep(|site| site == "a.example");
        metrics.write(&mut text).unwrap();
        for line in [
            "hsm_proxy_acme_orders_total{site=\"a.example\",result=\"success\"} 1\n",
            "hsm_proxy_acme_orders_total{site=\"a.example\",result=\"failure\"} 1\n",
            "hsm_proxy_acme_last_attempt_timestamp_seconds{site=\"a.example\"} 20\n",
            "hsm_proxy_acme_last_attempt_success{site=\"a.example\"} 1\n",
            "hsm_proxy_acme_next_attempt_timestamp_seconds{site=\"a.example\"} 40\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("gone.example"), "{text}");
    }
}
