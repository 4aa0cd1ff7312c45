use std::fmt::Write;
use std::path::PathBuf;

use crate::cases::Case;

const MARK: &str = "<!-- The rest is written by e2e/tests/side_by_side with HSM_WRITE_DOCS=1. -->\n";

/// A row as the document has it.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) here: String,
}

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http-behaviour.md"))
}

pub(crate) fn read() -> Vec<Row> {
    let text = std::fs::read_to_string(file()).unwrap();
    let (_, rows) = text.split_once(MARK).unwrap();
    let cells = rows.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| request |"));
    cells
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            Row { name: cells[0].to_owned(), here: cells[2].to_owned() }
        })
        .collect()
}

pub(crate) fn write(cases: &[Case], here: &[String], nginx: &[String], haproxy: &[String]) {
    let text = std::fs::read_to_string(file()).unwrap();
    let (introduction, _) = text.split_once(MARK).unwrap();
    let mut text = format!("{introduction}{MARK}");
    let mut group = "";
    let mut unexplained = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        if case.group != group {
            group = case.group;
            write!(text, "\n## {group}\n\n| request | sent | hsm-proxy | nginx | HAProxy | why |\n|---|---|---|---|---|---|\n").unwrap();
        }
        let same = here[at] == nginx[at] && here[at] == haproxy[at];
        if !same && case.why.is_empty() {
            unexplained.push(format!("{}: {} / {} / {}", case.name, here[at], nginx[at], haproxy[at]));
        }
        let why = if same { "" } else { case.why };
        let row = [case.name, &case.shown(), &here[at], &nginx[at], &haproxy[at], why].join(" | ");
        writeln!(text, "| {} |", row.trim_end()).unwrap();
    }
    std::fs::write(file(), text).unwrap();
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
}
