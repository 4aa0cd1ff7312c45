//! A segment of an audit log: as it is, and as the entries of a log with every number and hash right, each of the length that its
//! first byte says.
#![no_main]

#[path = "../../keycore/audit/tests/malformed/checks.rs"]
#[allow(dead_code)]
mod checks;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|input: &[u8]| {
    let log = DIRECTORY.path();
    checks::segment(log, input);
    if let Some((header, mut rest)) = input.split_first_chunk() {
        let mut entries = Vec::new();
        while let Some((&length, behind)) = rest.split_first() {
            let (entry, behind) = behind.split_at(behind.len().min(length.into()));
            entries.push(entry);
            rest = behind;
        }
        checks::segment(log, &checks::forged(header, &entries));
    }
});
