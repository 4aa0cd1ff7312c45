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

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// Where who asks for this name, in lower case and without a dot at its end, is passed on to; `None` if the name is one of
    /// a site, or nobody's. As among sites, an exact name goes before a wildcard.
    pub(crate) fn find(&self, name: &str, sites: &Sites) -> Option<&Arc<Passthrough>> {
        if let Some(exact) = self.exact.get(name) {
            return Some(exact);
        }
        let (label, suffix) = name.split_once('.')?;
        let wildcard = self.wildcard.get(suffix).filter(|_| !label.is_empty())?;
        // A wildcard belongs to one of both, so what a site has is an exact name.
        sites.find_listed(name).is_none().then_some(wildcard)
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
            ("a.example", Some("tcp://one:443")),
            ("x.example", Some("tcp://two:443")),
            ("site.example", None),
            ("b.sites.example", Some("tcp://one:443")),
            ("c.sites.example", None),
            ("x.y.example", None),
            (".example", None),
            ("example", None),
        ] {
            let found = passthroughs.find(name, &sites).map(|passthrough| passthrough.to.to_string());
            assert_eq!(found.as_deref(), to, "{name:?}");
        }
    }

    /// Browsers use a connection for every name that its certificate has.
    #[test]
    fn a_request_for_a_name_that_is_passed_on_is_served_by_no_site() {
        let text =
            "[[passthrough]]\nhost = [\"b.sites.example\", \"*.passed.example\"]\nto = \"tcp://one:443\"\n";
        let mut sites = crate::sites::tests::sites(&[&["*.sites.example"], &["default.example"]]);
        sites.set_passthroughs(Passthroughs::new(&Config::parse(text).unwrap().passthroughs));
        sites.set_default(&"default.example".parse().unwrap());
        for (sni, host, served) in [
            (Some("c.sites.example"), "c.sites.example", true),
            (Some("c.sites.example"), "b.sites.example", false),
            (Some("c.sites.example"), "B.Sites.Example.", false),
            (None, "nobodys.example", true),
            (None, "b.sites.example", false),
            (None, "x.passed.example", false),
            (Some("nobodys.example"), "x.passed.example", false),
        ] {
            assert_eq!(sites.for_request(sni, host).is_some(), served, "{sni:?} {host}");
        }
    }
}
