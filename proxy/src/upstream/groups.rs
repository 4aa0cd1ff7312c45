use std::collections::HashMap;
use std::sync::Arc;

use super::group::ServerGroup;
use crate::config::{Config, Destination, UpstreamSettings};

/// The upstreams of one configuration, by name; a server that a site names by itself goes by its URL, which no name is.
pub(crate) struct ServerGroups(HashMap<Box<str>, Arc<ServerGroup>>);

impl ServerGroups {
    /// Those of all `[[upstream]]`s, and of the servers that sites name by themselves; the same group for all that name the
    /// same. Servers that are in `before` in the same way go on, with their connections.
    pub(crate) fn new(config: &Config, before: Option<&Self>) -> Self {
        let mut groups = HashMap::new();
        let by_themselves = config.destinations().filter_map(|to| match to {
            Destination::Server(url) => Some(UpstreamSettings::of_one(url.clone())),
            Destination::Upstream(_) => None,
        });
        for settings in config.upstreams.iter().cloned().chain(by_themselves) {
            let label: Box<str> = settings.label().into();
            let before = before.and_then(|before| before.0.get(&label)).map(|group| &**group);
            groups.entry(label).or_insert_with(|| ServerGroup::of(&settings, before));
        }
        Self(groups)
    }

    /// The servers that a destination of the same configuration means; none if it is of another one.
    pub(crate) fn at(&self, destination: &Destination) -> Arc<ServerGroup> {
        let settings = match destination {
            Destination::Server(url) => UpstreamSettings::of_one(url.clone()),
            Destination::Upstream(name) => UpstreamSettings::new(name.clone(), Vec::new()),
        };
        match self.0.get(settings.label().as_str()) {
            Some(group) => Arc::clone(group),
            None => ServerGroup::of(&settings, None),
        }
    }
}
