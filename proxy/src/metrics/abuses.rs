use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abuse::Abuse;

/// HTTP/2 connections that were ended for what their clients sent.
#[derive(Default)]
pub(crate) struct Abuses([AtomicU64; Abuse::ALL.len()]);

impl Abuses {
    pub(crate) fn count(&self, abuse: Abuse) {
        self.0[abuse as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let name = "hsm_proxy_http2_abuse_total";
        writeln!(out, "# HELP {name} HTTP/2 connections that were ended for what their clients sent.")?;
        writeln!(out, "# TYPE {name} counter")?;
        for (abuse, count) in Abuse::ALL.into_iter().zip(&self.0) {
            writeln!(out, "{name}{{kind=\"{abuse}\"}} {}", count.load(Relaxed))?;
        }
        Ok(())
    }
}
