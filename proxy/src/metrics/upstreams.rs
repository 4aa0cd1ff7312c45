use std::fmt::{self, Write};

use super::quoted;
use crate::upstream::ServerGroups;

/// Which servers get requests.
pub(crate) fn write(upstreams: &ServerGroups, out: &mut String) -> fmt::Result {
    let name = "hsm_proxy_upstream_up";
    writeln!(
        out,
        "# HELP {name} Whether the server gets requests: neither ejected nor down.\n# TYPE {name} gauge"
    )?;
    for (upstream, server, is_up) in upstreams.states() {
        let (upstream, server) = (quoted(upstream), quoted(&server));
        writeln!(out, "{name}{{upstream={upstream},server={server}}} {}", u8::from(is_up))?;
    }
    Ok(())
}
