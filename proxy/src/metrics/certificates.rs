use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::quoted;
use crate::generation::Expiry;
use crate::ocsp::Staple;

/// Sites that are listed: with a million of them, those that expire last interest nobody.
pub(crate) const LISTED: usize = 1_000;

/// When certificates end: [`LISTED`] of them at most.
pub(super) fn write(expiries: &[Expiry], out: &mut String) -> fmt::Result {
    let name = "hsm_proxy_certificate_expiry_timestamp_seconds";
    writeln!(
        out,
        "# HELP {name} When the site's certificate ends, in Unix time; the {LISTED} that end first.\n# TYPE {name} gauge"
    )?;
    for Expiry { site, not_after } in expiries {
        writeln!(out, "{name}{{site={}}} {}", quoted(site), not_after.unix_timestamp())?;
    }
    Ok(())
}

/// When stapled OCSP responses end.
pub(crate) fn write_staples(staples: &[Staple], out: &mut String) -> fmt::Result {
    let name = "hsm_proxy_ocsp_expiry_timestamp_seconds";
    writeln!(
        out,
        "# HELP {name} When the site's stapled OCSP response ends, in Unix time; 0 if one is not stapled.\n# TYPE {name} gauge"
    )?;
    let unix = |until: SystemTime| until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for Staple { site, until } in staples.iter().take(LISTED) {
        writeln!(out, "{name}{{site={}}} {}", quoted(site), until.map_or(0, unix))?;
    }
    Ok(())
}
