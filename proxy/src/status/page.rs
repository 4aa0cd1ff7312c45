//! The page itself: one file, which asks nobody but this listener for anything.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64;

/// HTML, with its only style sheet and its only script inside.
pub(crate) const PAGE: &str = include_str!("page.html");

/// Nothing runs but the script that is in the file: what names of hosts, upstreams and engines say is text.
pub(crate) static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; connect-src 'self'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(between("<style>", "</style>")),
        hash(between("<script>", "</script>")),
    )
});

fn between(start: &str, end: &str) -> &'static str {
    let inside = PAGE.split_once(start).and_then(|(_, rest)| rest.split_once(end));
    inside.map_or("", |(inside, _)| inside)
}

fn hash(text: &str) -> String {
    BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_script_and_needs_nothing_else() {
        for tag in ["<style>", "</style>", "<script>", "</script>"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        for forbidden in [
            "<style ",
            "<script ",
            " style=",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        let handlers = PAGE.split(" on").skip(1).filter(|rest| {
            rest.split_once('=').is_some_and(|(name, value)| {
                name.chars().all(|c| c.is_ascii_lowercase()) && value.starts_with(['"', '\''])
            })
        });
        assert_eq!(handlers.count(), 0, "no handlers in attributes");
        let foreign = PAGE.matches("://").count() - PAGE.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(foreign, 0, "nothing comes from elsewhere");
        assert!(!between("<script>", "</script>").is_empty() && !between("<style>", "</style>").is_empty());
    }
}
