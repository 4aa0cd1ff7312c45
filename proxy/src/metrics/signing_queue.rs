use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Handshakes that wait for `limits.signatures`.
#[derive(Default)]
pub(crate) struct SigningQueue {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// One of them.
pub(crate) struct Waiting<'a>(&'a SigningQueue);

impl SigningQueue {
    /// How many wait now.
    pub(crate) fn waiting(&self) -> u64 {
        let ended = self.ended.load(Relaxed);
        self.begun.load(Relaxed).saturating_sub(ended)
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let name = "hsm_proxy_signing_queue";
        writeln!(out, "# HELP {name} Full handshakes that wait for limits.signatures now.")?;
        writeln!(out, "# TYPE {name} gauge\n{name} {}", self.waiting())?;
        writeln!(out, "# HELP {name}_waits_total Full handshakes that had to wait for limits.signatures.")?;
        writeln!(out, "# TYPE {name}_waits_total counter\n{name}_waits_total {}", self.begun.load(Relaxed))
    }
}

impl<'a> Waiting<'a> {
    pub(crate) fn begin(queue: &'a SigningQueue) -> Self {
        queue.begun.fetch_add(1, Relaxed);
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}
