use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::group::{Server, ServerGroup};
use super::health::ServerState;
use super::tls::TrustError;
use crate::config::{Config, Destination, UpstreamSettings, UpstreamUrl};
use crate::keys::KeySource;

/// The upstreams of one configuration, by name; a server that a site names by itself goes by its URL, which no name is.
pub(crate) struct ServerGroups(HashMap<Box<str>, Arc<ServerGroup>>);

impl ServerGroups {
    /// Those of all `[[upstream]]`s, and of the servers that sites name by themselves; the same group for all that name the
    /// same. Servers that are in `before` in the same way go on, with their connections.
    ///
    /// # Errors
    ///
    /// The upstream whose servers' certificates can't be verified, and why.
    pub(crate) fn new(
        config: &Config,
        keys: Option<&dyn KeySource>,
        before: Option<&Self>,
    ) -> Result<Self, (String, TrustError)> {
        let mut groups = HashMap::new();
        let by_themselves = config.destinations().filter_map(|to| match to {
            Destination::Server(url) => Some(UpstreamSettings::of_one(url.clone())),
            Destination::Upstream(_) => None,
        });
        for settings in config.upstreams.iter().cloned().chain(by_themselves) {
            let label: Box<str> = settings.label().into();
            let before = before.and_then(|before| before.0.get(&label)).map(|group| &**group);
            if let Entry::Vacant(vacant) = groups.entry(label) {
                let group = ServerGroup::with_keys(&settings, keys, before);
                vacant.insert(group.map_err(|error| (settings.label(), error))?);
            }
        }
        Ok(Self(groups))
    }

    /// Each server, with the name of its upstream.
    pub(super) fn servers(&self) -> impl Iterator<Item = (&str, &Arc<Server>)> {
        let groups = self.0.values();
        groups.flat_map(|group| group.members.iter().map(|member| (group.name(), &member.server)))
    }

    /// Each server's upstream and URL, and whether it gets requests; in no order.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&str, &UpstreamUrl, ServerState)> {
        self.servers().map(|(name, server)| (name, &server.url, server.health.state()))
    }

    /// The servers that a destination of the same configuration means; none if it is of another one.
    pub(crate) fn at(&self, destination: &Destination) -> Arc<ServerGroup> {
        let group = match destination {
            Destination::Server(url) => self.0.get(url.to_string().as_str()),
            Destination::Upstream(name) => self.0.get(name.as_str()),
        };
        group.map_or_else(ServerGroup::none, Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::write_upstreams;

    #[test]
    fn metrics_tell_the_state_of_each_server() {
        let text = "[[upstream]]\nname = \"shop\"\nservers = [\"http://a.example\", \"http://b.example\", \"http://c.example\"]";
        let groups =
            ServerGroups::new(&Config::parse(text).unwrap(), None, None).map_err(|(_, error)| error).unwrap();
        let server = |host: &str| {
            let mut servers = groups.servers().map(|(_, server)| server);
            servers.find(|server| server.url.to_string().contains(host)).unwrap()
        };
        while server("b.example").health.failed().is_none() {}
        server("c.example").health.went_down();
        let mut page = String::new();
        write_upstreams(&groups, &mut page).unwrap();
        for (host, is_up, state) in [("a", 1, "up"), ("b", 0, "ejected"), ("c", 0, "down")] {
            let labels = format!("{{upstream=\"shop\",server=\"http://{host}.example\"");
            assert!(page.contains(&format!("hsm_proxy_upstream_up{labels}}} {is_up}\n")), "{page}");
            for other in ServerState::ALL {
                let line = format!(
                    "hsm_proxy_upstream_state{labels},state=\"{}\"}} {}\n",
                    other.label(),
                    u8::from(other.label() == state)
                );
                assert!(page.contains(&line), "{line}{page}");
            }
        }
    }
}
