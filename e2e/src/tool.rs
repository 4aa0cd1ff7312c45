//! Programs from the system: foreign clients, peers, verifiers.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Finds a program on `PATH`, `/usr/sbin` included.
///
/// `None` if it isn't installed: the test then prints that it is skipped and why, and returns. Where
/// `HSM_TEST_REQUIRE_TOOLS` is set, as in CI, that is a failure instead.
///
/// # Panics
///
/// If the program is missing and required.
pub fn find(name: &str) -> Option<PathBuf> {
    find_all([name]).map(|[path]| path)
}

/// Finds several programs, for a test that takes all of them.
///
/// `None` as with [`find`], if any is missing; all that are missing are named.
///
/// # Panics
///
/// If one is missing and required.
pub fn find_all<const COUNT: usize>(names: [&str; COUNT]) -> Option<[PathBuf; COUNT]> {
    search(names).map_err(|absent| missing(&absent.join(", "))).ok()
}

/// Where these are, or which of them are nowhere.
fn search<const COUNT: usize>(names: [&str; COUNT]) -> Result<[PathBuf; COUNT], Vec<&str>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect();
    let mut absent = Vec::new();
    let found = names.map(|name| {
        let mut candidates = directories.iter().map(|directory| directory.join(name));
        candidates.find(|candidate| candidate.is_file()).unwrap_or_else(|| {
            absent.push(name);
            PathBuf::new()
        })
    });
    if absent.is_empty() { Ok(found) } else { Err(absent) }
}

/// Finds a Python that has these modules: the first on `PATH`, else the system's own, for which packages bring them.
///
/// `None` as with [`find`].
///
/// # Panics
///
/// If there is none and it is required.
pub fn python(modules: &[&str]) -> Option<PathBuf> {
    let import = format!("import {}", modules.join(", "));
    let found = ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", &import]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        missing(&format!("Python with {}", modules.join(", ")));
    }
    found.map(PathBuf::from)
}

fn missing(what: &str) {
    assert!(
        std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(),
        "not installed, and HSM_TEST_REQUIRE_TOOLS is set: {what}"
    );
    println!("SKIPPED: not installed: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named() {
        let [sh] = search(["sh"]).unwrap();
        assert!(sh.is_file());
        assert_eq!(search(["no-such-tool", "sh", "nor-this"]), Err(vec!["no-such-tool", "nor-this"]));
    }
}
