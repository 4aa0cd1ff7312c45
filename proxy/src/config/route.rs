use std::collections::HashSet;
use std::ops::Range;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::Config;

use super::destination::Destination;
use super::host::HostPattern;

/// `[[route]]`: another upstream for a part of a site.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RouteSettings {
    /// One of the site's hosts, as it is written there.
    #[schemars(with = "String")]
    pub site: HostPattern,
    /// The beginning of the paths that it takes, up to the end or to a slash.
    pub path: RoutePath,
    /// Where these requests go.
    pub to: Destination,
    /// Whether the upstream sees paths without that beginning.
    #[serde(default)]
    pub strip_prefix: bool,
    /// What the upstream sees in place of that beginning.
    pub rewrite: Option<RoutePath>,
}

/// The beginning of a path: `/`, or segments without anything that could be written in another way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct RoutePath(pub(crate) Box<str>);

/// Text that is no beginning of a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a route's path: {reason}")]
pub struct InvalidRoutePath {
    text: String,
    reason: &'static str,
}

impl FromStr for RoutePath {
    type Err = InvalidRoutePath;

    fn from_str(text: &str) -> Result<Self, InvalidRoutePath> {
        let invalid = |reason| Err(InvalidRoutePath { text: text.to_owned(), reason });
        if !text.starts_with('/') {
            return invalid("it begins with a slash");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&byte);
        if !text.bytes().all(plain) {
            return invalid(
                "write letters, digits and -._~!$&'()*+,=:@ as they are; nothing else is compared with requests",
            );
        }
        let mut segments = text[1..].split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            if segment == "." || segment == ".." || (segment.is_empty() && !is_last) {
                return invalid("it has no empty segment, no . and no ..");
            }
        }
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for RoutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is wrong with the routes, and where in the text.
pub(super) fn validate(config: &Config, text: &str) -> Result<(), (Option<Range<usize>>, String)> {
    let mut taken = HashSet::new();
    for (at, route) in config.routes.iter().enumerate() {
        let RouteSettings { site, path, .. } = route;
        let reason = match config.sites.iter().position(|settings| settings.host.contains(site)) {
            None => "no [[site]] has this host",
            Some(_) if route.strip_prefix && route.rewrite.is_some() => {
                "strip-prefix and rewrite exclude each other: rewrite = \"/\" strips"
            }
            Some(owner) if !taken.insert((owner, path)) => "this path of the site has a route already",
            Some(_) => continue,
        };
        return Err((span(text, at), format!("route {} of {site}: {reason}", path.0)));
    }
    Ok(())
}

/// Where the route at this position is in the text.
fn span(text: &str, route: usize) -> Option<Range<usize>> {
    #[derive(Deserialize)]
    struct Routes {
        route: Vec<Spanned<IgnoredAny>>,
    }

    let routes: Routes = toml::from_str(text).ok()?;
    routes.route.get(route).map(Spanned::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_with_one_reading_are_routes() {
        for good in ["/", "/api", "/api/", "/a/b.c/@x"] {
            assert!(good.parse::<RoutePath>().is_ok(), "{good}");
        }
        for bad in
            ["", "api", "//", "/a//b", "/a/../b", "/.", "/a%20b", "/a?b", "/a;b", "/ä", "/a\\b", "/a b"]
        {
            assert!(bad.parse::<RoutePath>().is_err(), "{bad}");
        }
    }
}
