use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Connections that were passed on.
#[derive(Default)]
pub(crate) struct PassedConnections {
    ok: AtomicU64,
    unreachable: AtomicU64,
    broken: AtomicU64,
    from_clients: AtomicU64,
    to_clients: AtomicU64,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Both sides have closed.
    Ok,
    /// The server took no connection.
    Unreachable,
    /// One side broke, or nothing moved for too long.
    Broken,
}

impl Passed {
    /// As metrics and the access log have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
        }
    }
}

impl PassedConnections {
    pub(crate) fn count(&self, passed: Passed, from_client: u64, to_client: u64) {
        match passed {
            Passed::Ok => &self.ok,
            Passed::Unreachable => &self.unreachable,
            Passed::Broken => &self.broken,
        }
        .fetch_add(1, Relaxed);
        self.from_clients.fetch_add(from_client, Relaxed);
        self.to_clients.fetch_add(to_client, Relaxed);
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let name = "hsm_proxy_passthrough_connections_total";
        writeln!(out, "# HELP {name} Connections that were passed on, by how they ended.")?;
        writeln!(out, "# TYPE {name} counter")?;
        for (result, count) in
            [(Passed::Ok, &self.ok), (Passed::Unreachable, &self.unreachable), (Passed::Broken, &self.broken)]
        {
            writeln!(out, "{name}{{result=\"{}\"}} {}", result.name(), count.load(Relaxed))?;
        }
        let name = "hsm_proxy_passthrough_bytes_total";
        writeln!(out, "# HELP {name} Bytes of connections that were passed on and have ended.")?;
        writeln!(out, "# TYPE {name} counter")?;
        writeln!(out, "{name}{{direction=\"received\"}} {}", self.from_clients.load(Relaxed))?;
        writeln!(out, "{name}{{direction=\"sent\"}} {}", self.to_clients.load(Relaxed))
    }
}
