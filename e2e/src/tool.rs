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
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        missing(name);
    }
    found
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
        "{what} is not installed, and HSM_TEST_REQUIRE_TOOLS is set"
    );
    println!("SKIPPED: {what} is not installed");
}
