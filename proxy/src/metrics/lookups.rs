use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of lookups of certificates in directories.
#[derive(Default)]
pub(crate) struct Lookups([AtomicU64; Lookup::ALL.len()]);

/// How a lookup of a certificate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Its answer was remembered.
    Cached,
    /// The file was read, or has not changed.
    Read,
    /// There is no such file.
    Absent,
    /// The file is not good.
    Unusable,
    /// There were too many.
    Busy,
}

impl Lookup {
    const ALL: [Self; 5] = [Self::Cached, Self::Read, Self::Absent, Self::Unusable, Self::Busy];

    fn label(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Read => "read",
            Self::Absent => "absent",
            Self::Unusable => "unusable",
            Self::Busy => "busy",
        }
    }
}

impl Lookups {
    pub(crate) fn count(&self, lookup: Lookup) {
        self.0[lookup as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn get(&self, lookup: Lookup) -> u64 {
        self.0[lookup as usize].load(Relaxed)
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let name = "hsm_proxy_certificate_lookups_total";
        writeln!(out, "# HELP {name} Lookups of certificates in directories, by what became of them.")?;
        writeln!(out, "# TYPE {name} counter")?;
        for lookup in Lookup::ALL {
            writeln!(out, "{name}{{result=\"{}\"}} {}", lookup.label(), self.get(lookup))?;
        }
        Ok(())
    }
}
