use std::fmt::{self, Write};

use super::quoted;
use crate::generation::Expiry;

/// Sites that are listed: with a million of them, those that expire last interest nobody.
const LISTED: usize = 1_000;

/// When certificates end; `expiries` with the soonest first.
pub(super) fn write(expiries: &[Expiry], out: &mut String) -> fmt::Result {
    let name = "hsm_proxy_certificate_expiry_timestamp_seconds";
    writeln!(
        out,
        "# HELP {name} When the site's certificate ends, in Unix time; the {LISTED} that end first.\n# TYPE {name} gauge"
    )?;
    for Expiry { site, not_after } in expiries.iter().take(LISTED) {
        writeln!(out, "{name}{{site={}}} {}", quoted(site), not_after.unix_timestamp())?;
    }
    Ok(())
}
