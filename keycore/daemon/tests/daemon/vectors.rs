//! Test vectors of Project Wycheproof and NIST, through the socket of a real engine: `docs/test-vectors.md` has the table.
//!
//! `cargo test -p hsm-engine --test daemon vectors -- --nocapture` prints the table. When vectors or mechanisms change,
//! paste it into the document.

mod cavp;
mod der;
mod engine;
mod table;
mod wycheproof;

use engine::Engine;
use table::Table;

const DOCUMENT: &str = include_str!("../../../../docs/test-vectors.md");

#[test]
fn an_engine_gives_the_right_answer_to_every_applicable_vector() {
    let mut engine = Engine::start();
    let mut table = Table::default();
    wycheproof::run(&mut engine, &mut table);
    cavp::run(&mut engine, &mut table);
    let printed = table.to_string();
    println!("{printed}");
    assert_eq!(table.failures(), Vec::<String>::new());
    assert!(DOCUMENT.contains(&printed), "docs/test-vectors.md has not the table above");
}
