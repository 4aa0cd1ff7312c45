use std::fmt::{self, Write};

use super::histogram::Histogram;

/// How long handshakes and their parts take.
#[derive(Default)]
pub(crate) struct Timings {
    pub(crate) full: Histogram,
    pub(crate) resumed: Histogram,
    /// Waiting for `limits.handshakes`.
    pub(crate) queue: Histogram,
    /// From asking for a signature to having it: the worker's queue, the socket and the engine, a hedge or a failover
    /// included.
    pub(crate) signature: Histogram,
}

impl Timings {
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let name = "hsm_proxy_handshake_seconds";
        writeln!(out, "# HELP {name} From a connection's acceptance to the end of its handshake.")?;
        writeln!(out, "# TYPE {name} histogram")?;
        self.full.write(name, "result=\"full\"", out)?;
        self.resumed.write(name, "result=\"resumed\"", out)?;
        let name = "hsm_proxy_signature_seconds";
        writeln!(
            out,
            "# HELP {name} What signatures wait for: a place in the proxy (queue), then socket and engine together (engine)."
        )?;
        writeln!(out, "# TYPE {name} histogram")?;
        self.queue.write(name, "stage=\"queue\"", out)?;
        self.signature.write(name, "stage=\"engine\"", out)
    }
}
