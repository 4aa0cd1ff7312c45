//! What documents claim of the code: that the tests and files that they name exist, and that `docs/threat-model.md` leaves
//! no cell out.

use std::fs;
use std::path::{Path, PathBuf};

const ASSETS: [&str; 6] = ["keys", "use", "users", "audit", "service", "names"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between backticks in a line.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The cells of a table's row.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn what_documents_name_exists() {
    for (document, least) in [("docs/past-cves.md", 15), ("docs/threat-model.md", 60), ("ARCHITECTURE.md", 0)]
    {
        let mut named = 0;
        for word in read(document).lines().flat_map(code) {
            if let Some((file, test)) = word.split_once(".rs#") {
                let source = read(&format!("{file}.rs"));
                assert!(source.contains(&format!("fn {test}(")), "{document}: {file}.rs has no test {test}");
                named += 1;
            } else if word.ends_with(".rs") && word.contains('/') {
                assert!(root().join(word).is_file(), "{document}: no file {word}");
            }
        }
        assert!(named >= least, "{document} names {named} tests");
    }
}

#[test]
fn every_actor_is_held_against_every_asset() {
    let document = read("docs/threat-model.md");
    let mut sections = document.split("\n## ");
    let overview = sections.next().unwrap();
    let actors: Vec<_> = overview
        .lines()
        .filter_map(|line| Some((line.strip_prefix("| [")?.split_once(']')?.0, line)))
        .collect();
    let heading = overview.lines().find(|line| line.starts_with("| actor |")).unwrap();
    assert_eq!(cells(heading)[2..], ASSETS);
    let mut answered = 0;
    for (actor, line) in &actors {
        let row = cells(line);
        assert_eq!(row.len(), 2 + ASSETS.len(), "{line}");
        let section = sections.next().unwrap_or_else(|| panic!("no section for {actor}"));
        let (title, content) = section.split_once('\n').unwrap();
        let anchor = title.to_lowercase().replace([',', '\''], "").replace(' ', "-");
        assert_eq!((title, line.contains(&format!("](#{anchor})"))), (*actor, true));
        let table: Vec<_> = content.lines().filter(|line| line.starts_with("| ")).map(cells).collect();
        let assets: Vec<_> = table[1..].iter().map(|row| row[0]).collect();
        assert_eq!(assets, ASSETS, "{actor}");
        for (cell, row) in row[2..].iter().zip(&table[1..]) {
            let [asset, stops, nothing_stops] = row[..] else { panic!("{actor}: {row:?}") };
            assert!(!stops.is_empty(), "{actor}, {asset}: say what stops him, if it is nothing");
            // Bold is what nothing stops, and then it is said.
            let open = cell.contains("**") && stops != "nothing";
            assert!(!open || !nothing_stops.is_empty(), "{actor}, {asset}: {cell}, and nothing is named");
            answered += 1;
        }
    }
    assert_eq!(sections.next(), None, "a section of somebody who is not in the overview");
    assert!(answered >= 13 * ASSETS.len(), "{answered} cells");
}
