//! What a site changes about requests and responses, beyond what every proxy has to.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::{Response, StatusCode, Version};

use crate::compression::Compression;
use crate::config::{AddedField, RemovedField, SiteSettings};
use crate::respond::Failure;

/// Largest error page: they are all held in memory.
const MAX_PAGE: u64 = 256 * 1024;

/// A site's rules for HTTP.
#[derive(Default)]
pub struct HttpPolicy {
    request: FieldChanges,
    response: FieldChanges,
    error_pages: HashMap<u16, Bytes>,
    pub(crate) compression: Compression,
}

/// Fields that are taken away, and then others that are set.
#[derive(Default)]
struct FieldChanges {
    removed: Vec<HeaderName>,
    /// Each name once, with all its values.
    added: Vec<(HeaderName, Vec<HeaderValue>)>,
}

/// An error page that can't be served.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub struct ErrorPageError {
    path: PathBuf,
    reason: String,
}

impl HttpPolicy {
    /// The rules of a site. Reads its error pages.
    ///
    /// # Errors
    ///
    /// If they can't be read, or are none.
    pub(crate) fn of(site: &SiteSettings) -> Result<Self, ErrorPageError> {
        let mut response = FieldChanges::new(&site.remove_headers, &site.add_headers);
        if let Some(hsts) = &site.hsts {
            response.added.push((STRICT_TRANSPORT_SECURITY, vec![hsts.0.clone()]));
        }
        Ok(Self {
            request: FieldChanges::new(&site.remove_request_headers, &site.add_request_headers),
            response,
            compression: Compression { codings: site.compress.clone(), min_size: site.compress_min_size },
            error_pages: site.error_pages.as_deref().map_or_else(|| Ok(HashMap::new()), read_pages)?,
        })
    }

    /// Changes the fields of a request that is ready for its upstream.
    pub(crate) fn change_request(&self, headers: &mut HeaderMap) {
        self.request.apply(headers);
    }

    /// Changes the fields of a response that is ready for its client, whoever made it.
    pub(crate) fn change_response(&self, headers: &mut HeaderMap) {
        self.response.apply(headers);
    }

    /// The response to a request that the site's upstream gave none to.
    pub(crate) fn failure(&self, failure: &Failure, version: Version) -> Response<Bytes> {
        let mut response = failure.response(version);
        if let Some(page) = self.error_pages.get(&response.status().as_u16()) {
            *response.body_mut() = page.clone();
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, html);
        }
        response
    }
}

impl FieldChanges {
    fn new(removed: &[RemovedField], added: &[AddedField]) -> Self {
        let mut by_name: Vec<(HeaderName, Vec<HeaderValue>)> = Vec::new();
        for AddedField { name, value } in added {
            match by_name.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(value.clone()),
                None => by_name.push((name.clone(), vec![value.clone()])),
            }
        }
        Self { removed: removed.iter().map(|field| field.0.clone()).collect(), added: by_name }
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.removed {
            remove(headers, name);
        }
        for (name, values) in &self.added {
            remove(headers, name);
            for value in values {
                headers.append(name, value.clone());
            }
        }
    }
}

/// Removes a field in all spellings that CGI and its like take for the same: `_` for `-`.
fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    let like = |other: &HeaderName| {
        let (other, name) = (other.as_str(), name.as_str());
        let same = |(a, b): (u8, u8)| a == b || matches!((a, b), (b'-' | b'_', b'-' | b'_'));
        other.len() == name.len() && other.bytes().zip(name.bytes()).all(same)
    };
    let others: Vec<HeaderName> = headers.keys().filter(|other| like(other)).cloned().collect();
    for other in others {
        headers.remove(other);
    }
}

/// The files of a directory that are error pages, and the directory itself, which changes when one comes or goes.
pub(crate) fn page_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let pages = entries.map(|entry| entry.path()).filter(|path| status_of(path).is_some());
    pages.chain([directory.to_owned()]).collect()
}

/// The status that a page is for, by its name.
fn status_of(page: &Path) -> Option<StatusCode> {
    let digits = page.file_name()?.to_str()?.strip_suffix(".html")?;
    let status = digits.parse::<StatusCode>().ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

/// Reads `502.html` and its like from a directory.
fn read_pages(directory: &Path) -> Result<HashMap<u16, Bytes>, ErrorPageError> {
    let failed = |path: &Path, reason: String| ErrorPageError { path: path.to_owned(), reason };
    let unreadable = |error: io::Error| failed(directory, error.to_string());
    let mut pages = HashMap::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(status) = status_of(&path) else { continue };
        let mut page = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_PAGE + 1).read_to_end(&mut page))
            .map_err(|error| failed(&path, error.to_string()))?;
        if page.len() as u64 > MAX_PAGE {
            return Err(failed(&path, format!("an error page may have {} KiB", MAX_PAGE / 1024)));
        }
        pages.insert(status.as_u16(), page.into());
    }
    if pages.is_empty() {
        return Err(failed(directory, "there is no page in it with a name like 502.html".to_owned()));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteSettings {
        SiteSettings::new(vec!["a.example".parse().unwrap()], vec!["/c".into()], "http://b".parse().unwrap())
    }

    #[test]
    fn fields_are_removed_and_set() {
        let settings = SiteSettings {
            add_headers: vec!["X-A: 1".parse().unwrap(), "x-a: 2".parse().unwrap(), "B: 3".parse().unwrap()],
            remove_headers: vec!["Server".parse().unwrap()],
            hsts: Some("max-age=5".parse().unwrap()),
            ..site()
        };
        let policy = HttpPolicy::of(&settings).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "old"), ("server", "s"), ("strict-transport-security", "max-age=0")] {
            headers.insert(name, value.parse().unwrap());
        }
        policy.change_response(&mut headers);
        let all: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(
            (headers["b"].to_str().unwrap(), &headers["strict-transport-security"]),
            ("3", &HeaderValue::from_static("max-age=5"))
        );
        assert!(!headers.contains_key("server"));
    }

    #[test]
    fn error_pages_are_read_once_and_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let settings = SiteSettings { error_pages: Some(directory.path().to_owned()), ..site() };
        let error = HttpPolicy::of(&settings).err().unwrap().to_string();
        assert!(error.ends_with("like 502.html"), "{error}");
        std::fs::write(directory.path().join("405.html"), "<p>no").unwrap();
        std::fs::write(directory.path().join("200.html"), "never").unwrap();
        std::fs::write(directory.path().join("502.txt"), "never").unwrap();
        let policy = HttpPolicy::of(&settings).unwrap();
        let page = policy.failure(&Failure::MethodNotAllowed, Version::HTTP_11);
        assert_eq!((page.status().as_u16(), &page.body()[..]), (405, &b"<p>no"[..]));
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let page = policy.failure(&Failure::BodyTimeout, Version::HTTP_11);
        assert!(page.body().starts_with(b"408"));
        std::fs::write(directory.path().join("500.html"), vec![b'x'; 300_000]).unwrap();
        assert!(HttpPolicy::of(&settings).is_err());
    }
}
