//! The body of one request.
#![no_main]

#[path = "../../keycore/wire/tests/malformed/checks.rs"]
#[allow(dead_code)]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    checks::request(body);
});
