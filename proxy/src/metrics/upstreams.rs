use std::fmt::{self, Write};

use super::quoted;
use crate::upstream::{ServerGroups, ServerState};

/// Which servers get requests, and why the others don't.
pub(crate) fn write(upstreams: &ServerGroups, out: &mut String) -> fmt::Result {
    let mut servers: Vec<_> = upstreams
        .states()
        .map(|(upstream, server, state)| (quoted(upstream), quoted(&server.to_string()), state))
        .collect();
    servers.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    let name = "hsm_proxy_upstream_up";
    writeln!(
        out,
        "# HELP {name} Whether the server gets requests: neither ejected nor down.\n# TYPE {name} gauge"
    )?;
    for (upstream, server, state) in &servers {
        writeln!(out, "{name}{{upstream={upstream},server={server}}} {}", u8::from(state.is_up()))?;
    }
    let name = "hsm_proxy_upstream_state";
    writeln!(out, "# HELP {name} 1 for the state that the server is in.\n# TYPE {name} gauge")?;
    for (upstream, server, state) in &servers {
        for other in ServerState::ALL {
            let (label, is_it) = (other.label(), u8::from(other == *state));
            writeln!(out, "{name}{{upstream={upstream},server={server},state=\"{label}\"}} {is_it}")?;
        }
    }
    Ok(())
}
