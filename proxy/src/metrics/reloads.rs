use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Metrics;

/// How the reloads went.
#[derive(Default)]
pub(crate) struct Reloads {
    good: AtomicU64,
    failed: AtomicU64,
    /// Whether the last one failed, so that something older than what is on disk is served.
    is_behind: AtomicU64,
    /// Certificates of the generation in service that could not be loaded again.
    stale: AtomicU64,
    generations: AtomicU64,
}

/// A generation, counted until it is dropped.
pub(crate) struct Counted(Arc<Metrics>);

impl Counted {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.reloads.generations.fetch_add(1, Relaxed);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.reloads.generations.fetch_sub(1, Relaxed);
    }
}

impl Reloads {
    pub(crate) fn succeeded(&self, stale: usize) {
        self.good.fetch_add(1, Relaxed);
        self.is_behind.store(0, Relaxed);
        self.stale.store(stale as u64, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
        self.is_behind.store(1, Relaxed);
    }

    /// So many went well, and so many failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.good.load(Relaxed), self.failed.load(Relaxed))
    }

    /// Whether the last one failed, so that something older than what is on disk is served.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Relaxed) != 0
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "# HELP hsm_proxy_reloads_total Reloads of the configuration by result.")?;
        writeln!(out, "# TYPE hsm_proxy_reloads_total counter")?;
        for (result, count) in [("ok", &self.good), ("failed", &self.failed)] {
            writeln!(out, "hsm_proxy_reloads_total{{result=\"{result}\"}} {}", count.load(Relaxed))?;
        }
        writeln!(
            out,
            "# HELP hsm_proxy_config_behind Whether the last reload failed, and an older configuration is served."
        )?;
        writeln!(out, "# TYPE hsm_proxy_config_behind gauge")?;
        writeln!(out, "hsm_proxy_config_behind {}", self.is_behind.load(Relaxed))?;
        writeln!(
            out,
            "# HELP hsm_proxy_stale_certificates Certificates that could not be loaded again: older ones are served."
        )?;
        writeln!(out, "# TYPE hsm_proxy_stale_certificates gauge")?;
        writeln!(out, "hsm_proxy_stale_certificates {}", self.stale.load(Relaxed))?;
        writeln!(
            out,
            "# HELP hsm_proxy_generations Configurations in service: the current one, and those of older connections."
        )?;
        writeln!(out, "# TYPE hsm_proxy_generations gauge")?;
        writeln!(out, "hsm_proxy_generations {}", self.generations.load(Relaxed))
    }
}
