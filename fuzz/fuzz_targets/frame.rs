//! A byte stream as a hostile client writes it, cut into frames, each decoded as a request.
#![no_main]

#[path = "../../keycore/wire/tests/malformed/checks.rs"]
#[allow(dead_code)]
mod checks;

use keycore_wire::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    for limit in [frame::MAX_HELLO_FRAME, frame::MAX_FRAME] {
        checks::frames(stream, limit, |body| {
            checks::request(body);
        });
    }
});
