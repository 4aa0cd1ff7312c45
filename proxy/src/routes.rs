//! Which upstream of a site a request goes to, by its path.
//!
//! Paths are compared in the form that a web server makes of them, and in that form they go to the upstream: `/a/../b`
//! and `/a/%2e%2e/b` are `/b`. Where servers differ about the form (`%2F`, backslashes, `;` parameters), a request whose
//! readings belong to different routes is refused, so that nobody walks around a route.

mod path;

use std::borrow::Cow;

use http::uri::{PathAndQuery, Uri};

use crate::config::RouteSettings;
use crate::respond::Failure;
use crate::sites::Upstream;
use crate::upstream::ServerGroups;

/// The routes of one site, the longest first.
#[derive(Default)]
pub struct Routes(Vec<Route>);

/// A part of a site.
pub struct Route {
    /// The beginning of its paths: with a slash at the end only what is below, else up to the end or to a slash.
    pub path: Box<str>,
    /// Where its requests go.
    pub upstream: Upstream,
    /// What the upstream sees in place of `path`.
    pub rewrite: Option<Box<str>>,
}

impl Routes {
    /// Puts them in order.
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        Self(routes)
    }

    /// The upstream of a request for `uri` (in any form), if a route has it; and what of the URI goes there, if that is not
    /// its path and query as they came.
    ///
    /// # Errors
    ///
    /// [`Failure::BadRequest`] if the path can be read in ways that belong to different routes.
    pub(crate) fn find(&self, uri: &Uri) -> Result<(Option<&Upstream>, Option<PathAndQuery>), Failure> {
        let raw = uri.path();
        if self.0.is_empty() || !raw.starts_with('/') {
            return Ok((None, None));
        }
        let literal = path::literal(raw);
        let route = self.of(&literal);
        let in_two_ways = Failure::BadRequest("the path can be read in two ways");
        if path::depends_on_order(&literal) {
            return Err(in_two_ways);
        }
        let decoded = path::decoded(&literal);
        if decoded.as_ref().is_some_and(|other| self.position(other) != self.position(&literal)) {
            return Err(in_two_ways);
        }
        let rewritten = route.map_or(Cow::Borrowed(&*literal), |route| route.rewritten(&literal));
        if decoded.is_some() && route.is_some_and(|route| route.leaves_its_place(&rewritten)) {
            return Err(in_two_ways);
        }
        let changed = (*rewritten != *raw).then(|| with_query(&rewritten, uri.query())).transpose()?;
        Ok((route.map(|route| &route.upstream), changed))
    }

    fn of(&self, path: &str) -> Option<&Route> {
        self.position(path).map(|at| &self.0[at])
    }

    fn position(&self, path: &str) -> Option<usize> {
        self.0.iter().position(|route| route.has(path))
    }
}

impl Route {
    /// The route of these settings.
    pub(crate) fn of(settings: &RouteSettings, upstreams: &ServerGroups) -> Self {
        let stripped = settings.strip_prefix.then_some("/");
        let rewrite = settings.rewrite.as_ref().map(|path| &*path.0).or(stripped).map(Into::into);
        Self { path: settings.path.0.clone(), upstream: Upstream::Http(upstreams.at(&settings.to)), rewrite }
    }

    fn has(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.path);
        rest.is_some_and(|rest| self.path.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether a server that decodes slashes finds the rewritten path somewhere else than below what it was rewritten to.
    fn leaves_its_place(&self, rewritten: &str) -> bool {
        let Some(place) = self.rewrite.as_deref().map(|rewrite| rewrite.trim_end_matches('/')) else {
            return false;
        };
        let Some(decoded) = path::decoded(rewritten) else { return false };
        !decoded.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn rewritten<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let (Some(rewrite), Some(rest)) = (&self.rewrite, path.strip_prefix(&*self.path)) else {
            return Cow::Borrowed(path);
        };
        let rest = rest.trim_start_matches('/');
        let has_slash = rewrite.ends_with('/') || (rest.is_empty() && !path.ends_with('/'));
        Cow::Owned(format!("{rewrite}{}{rest}", if has_slash { "" } else { "/" }))
    }
}

fn with_query(path: &str, query: Option<&str>) -> Result<PathAndQuery, Failure> {
    let whole = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    PathAndQuery::try_from(whole).map_err(|_| Failure::BadRequest("the path is not valid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::ServerGroup;

    fn routes() -> Routes {
        let route = |path: &str, rewrite: Option<&str>| Route {
            path: path.into(),
            upstream: Upstream::Http(
                ServerGroup::to(format!("http://u{}", path.replace('/', "-")).parse().unwrap()).unwrap(),
            ),
            rewrite: rewrite.map(Into::into),
        };
        Routes::new(vec![
            route("/api", Some("/")),
            route("/api/v2/", Some("/two")),
            route("/admin", None),
            route("/static/", None),
        ])
    }

    /// The route's path in its upstream's name, and the request's path as it goes there.
    fn found(uri: &str) -> Result<String, Failure> {
        let uri: Uri = uri.parse().unwrap();
        let routes = routes();
        let (upstream, path) = routes.find(&uri)?;
        let upstream = match upstream {
            Some(Upstream::Http(group)) => group.name().trim_start_matches("http://").to_owned(),
            _ => "site".to_owned(),
        };
        let as_it_came = uri.path_and_query().unwrap().clone();
        Ok(format!("{upstream} {}", path.unwrap_or(as_it_came)))
    }

    #[test]
    fn the_longest_beginning_wins_and_ends_at_a_slash() {
        for (uri, expected) in [
            ("/", "site /"),
            ("/apix?q=/api", "site /apix?q=/api"),
            ("/api", "u-api /"),
            ("/api/", "u-api /"),
            ("/api/x/y?z", "u-api /x/y?z"),
            ("/api?z", "u-api /?z"),
            ("/api/v2", "u-api /v2"),
            ("/api/v2/", "u-api-v2- /two/"),
            ("/api/v2/x%20y", "u-api-v2- /two/x%20y"),
            ("/admin/x", "u-admin /admin/x"),
            ("/Admin", "site /Admin"),
            ("/static", "site /static"),
            ("/static/a//b", "u-static- /static/a/b"),
            ("https://example.org/api/x", "u-api /x"),
        ] {
            assert_eq!(found(uri).unwrap(), expected, "{uri}");
        }
    }

    #[test]
    fn nobody_walks_around_a_route() {
        for (uri, expected) in [
            ("/x/../admin", "u-admin /admin"),
            ("/x/%2e%2E/admin", "u-admin /admin"),
            ("/x/.%2e/./admin/.", "u-admin /admin/"),
            ("//admin", "u-admin /admin"),
            ("/%61dmin", "u-admin /admin"),
            ("/../../admin", "u-admin /admin"),
            ("/admin/../x", "site /x"),
            ("/api/../../admin/y", "u-admin /admin/y"),
            ("/x%zz/%2", "site /x%zz/%2"),
            ("/api/group%2Fproject", "u-api /group%2Fproject"),
            ("/a;b=c/d", "site /a;b=c/d"),
        ] {
            assert_eq!(found(uri).unwrap(), expected, "{uri}");
        }
        for uri in [
            "/x/..%2fadmin",
            "/x/..%5Cadmin",
            "/x%2f..%2fadmin",
            "/admin%2fx",
            "/admin;x",
            "/x/..;/admin",
            "/x/..;a=b/admin",
            "/admin%00",
            "/admin%2f..%2f..%2fapi",
            // By one who cuts at `;` before he decodes slashes, or decodes and does not cut, or ends at a null byte.
            "/admin;%2f..",
            "/admin;x%2f..",
            "/admin%2f..;%2f..%2fsecret",
            "/admin%00%2f..",
        ] {
            assert!(matches!(found(uri), Err(Failure::BadRequest(_))), "{uri}: {:?}", found(uri));
        }
    }
}
