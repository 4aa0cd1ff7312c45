//! A backup's file, and the texts of identities, recipients and shares. The first byte says how long the pieces are that the file
//! comes in.
#![no_main]

#[path = "../../keycore/backup/tests/malformed/checks.rs"]
#[allow(dead_code)]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some((&piece, file)) = input.split_first() {
        checks::backup(file, usize::from(piece) * 64);
        checks::texts(file);
    }
});
