//! The body of one reply, from an engine that is not what it says. The first byte chooses the operation that it answers.
#![no_main]

#[path = "../../keycore/wire/tests/malformed/checks.rs"]
#[allow(dead_code)]
mod checks;

use keycore_wire::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some((&choice, body)) = input.split_first() {
        let (opcode, _) = Request::TABLE[usize::from(choice) % Request::TABLE.len()];
        checks::reply(opcode, body);
    }
});
