use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clients::Refused;

/// Connections that were closed because there are too many of their kind.
#[derive(Default)]
pub(crate) struct Refusals {
    too_many: AtomicU64,
    too_fast: AtomicU64,
    abuse: AtomicU64,
    no_headers: AtomicU64,
}

impl Refusals {
    pub(crate) fn count(&self, reason: Refused) {
        match reason {
            Refused::TooMany => &self.too_many,
            Refused::TooFast => &self.too_fast,
            Refused::Abuse => &self.abuse,
            Refused::NoHeaders => &self.no_headers,
        }
        .fetch_add(1, Relaxed);
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let name = "hsm_proxy_refused_connections_total";
        writeln!(
            out,
            "# HELP {name} Connections that were closed because there were too many of their kind."
        )?;
        writeln!(out, "# TYPE {name} counter")?;
        writeln!(out, "{name}{{reason=\"connections-per-ip\"}} {}", self.too_many.load(Relaxed))?;
        writeln!(out, "{name}{{reason=\"new-connections-per-ip\"}} {}", self.too_fast.load(Relaxed))?;
        writeln!(out, "{name}{{reason=\"http2-abuse\"}} {}", self.abuse.load(Relaxed))?;
        writeln!(out, "{name}{{reason=\"proxy-headers\"}} {}", self.no_headers.load(Relaxed))
    }
}
