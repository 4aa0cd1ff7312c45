//! Programs from the system: foreign clients, peers, verifiers.

use std::path::PathBuf;

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
        assert!(
            std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(),
            "{name} is not installed, and HSM_TEST_REQUIRE_TOOLS is set"
        );
        println!("SKIPPED: {name} is not installed");
    }
    found
}
