//! Connections that are passed on as they are, by the name in their ClientHello: the server behind makes the handshake.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{PassthroughSettings, PassthroughTarget, ProxyProtocol};
use crate::sites::Sites;

/// All of one configuration.
#[derive(Default)]
pub(crate) struct Passthroughs {
    /// By exact name, in lower case.
    exact: HashMap<Box<str>, Arc<Passthrough>>,
    /// By the part behind `*.`.
    wildcard: HashMap<Box<str>, Arc<Passthrough>>,
}

/// Where some names lead.
pub(crate) struct Passthrough {
    /// Its first host.
    pub(crate) name: Box<str>,
    pub(crate) to: PassthroughTarget,
    /// Whether its connections begin with a PROXY header.
    pub(crate) introduces: bool,
}

impl Passthroughs {
    pub(crate) fn new(all: &[PassthroughSettings]) -> Self {
        let mut passthroughs = Self::default();
        for settings in all {
            let passthrough = Arc::new(Passthrough {
                name: settings.name().into(),
                to: settings.to.clone(),
                introduces: settings.proxy_protocol == Some(ProxyProtocol::V2),
            });
            for host in &settings.host {
                let (by, key) = match host.wildcard_suffix() {
                    Some(suffix) => (&mut passthroughs.wildcard, suffix),
                    None => (&mut passthroughs.exact, host.as_str()),
                };
                by.insert(key.into(), Arc::clone(&passthrough));
            }
        }
        passthroughs
    }

    /// Where who asks for this name, in lower case and without a dot at its end, is passed on to; `None` if the name is one of
    /// a site, or nobody's. As among sites, an exact name goes before a wildcard.
    pub(crate) fn find(&self, name: Option<&str>, sites: &Sites) -> Option<&Arc<Passthrough>> {
        let name = name?;
        if let Some(exact) = self.exact.get(name) {
            return Some(exact);
        }
        let (label, suffix) = name.split_once('.')?;
        let wildcard = self.wildcard.get(suffix).filter(|_| !label.is_empty())?;
        // A wildcard belongs to one of both, so what a site has is an exact name.
        sites.find(name).is_none().then_some(wildcard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn exact_goes_before_wildcard_whoever_has_them() {
        let passthrough =
            |hosts: &str, to: &str| format!("[[passthrough]]\nhost = {hosts}\nto = \"tcp://{to}:443\"\n");
        let text =
            passthrough("[\"a.example\", \"b.sites.example\"]", "one") + &passthrough("\"*.example\"", "two");
        let config = Config::parse(&text).unwrap();
        let passthroughs = Passthroughs::new(&config.passthroughs);
        let sites = crate::sites::tests::sites(&[&["site.example"], &["*.sites.example"]]);
        for (name, to) in [
            (Some("a.example"), Some("tcp://one:443")),
            (Some("x.example"), Some("tcp://two:443")),
            (Some("site.example"), None),
            (Some("b.sites.example"), Some("tcp://one:443")),
            (Some("c.sites.example"), None),
            (Some("x.y.example"), None),
            (Some(".example"), None),
            (Some("example"), None),
            (None, None),
        ] {
            let found = passthroughs.find(name, &sites).map(|passthrough| passthrough.to.to_string());
            assert_eq!(found.as_deref(), to, "{name:?}");
        }
    }
}
