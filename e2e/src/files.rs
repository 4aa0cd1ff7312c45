//! What is in files.

use std::path::{Path, PathBuf};

use crate::memory;
use crate::needle::Needle;

/// Where any of the needles are in the files below `directory`, but for those below `except`.
///
/// # Panics
///
/// If a directory can't be read, or no file is there: nothing would have been searched.
pub fn hits(directory: &Path, except: Option<&Path>, needles: &[Needle]) -> Vec<String> {
    let mut paths = Vec::new();
    add_below(directory, except, &mut paths);
    assert!(!paths.is_empty(), "no files in {}", directory.display());
    let mut hits = Vec::new();
    for path in paths {
        // Some come and go, as SQLite's journals do.
        let Ok(content) = std::fs::read(&path) else { continue };
        let found = needles.iter().filter(|needle| memory::in_bytes(&content, &needle.bytes) > 0);
        hits.extend(found.map(|needle| format!("{}: {}", path.display(), needle.what)));
    }
    hits
}

fn add_below(directory: &Path, except: Option<&Path>, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a readable directory").flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && except != Some(&entry.path()) {
            add_below(&entry.path(), except, found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}
