//! The frames that `docs/wire-protocol.md` prints: one request and one reply of every operation, as `golden.rs` beside this
//! directory makes sure.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

pub(crate) const DOCUMENT: &str = include_str!("../../../../docs/wire-protocol.md");

/// Frames by name: `Hello request`, `Hello reply`.
pub(crate) type Frames = BTreeMap<String, Vec<u8>>;

/// The fenced blocks that begin with "```hex NAME".
pub(crate) fn documented() -> Frames {
    let mut frames = Frames::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("```hex ") {
            let digits: String = lines.by_ref().take_while(|line| *line != "```").collect();
            let bytes = HEXLOWER.decode(digits.replace(' ', "").as_bytes()).unwrap();
            assert!(frames.insert(name.to_owned(), bytes).is_none(), "{name} is printed twice");
        }
    }
    frames
}
