//! Counts per file of vectors.

use core::fmt;
use std::collections::BTreeMap;

/// What became of a vector.
pub(super) enum Verdict {
    Passed,
    Failed(String),
    /// The reason.
    NotApplicable(&'static str),
}

impl Verdict {
    /// Whether what must hold does.
    pub(super) fn of(holds: bool, otherwise: &str) -> Self {
        if holds { Self::Passed } else { Self::Failed(otherwise.to_owned()) }
    }
}

#[derive(Default)]
pub(super) struct Table {
    rows: BTreeMap<(String, String), Row>,
}

#[derive(Default)]
struct Row {
    tests: usize,
    passed: usize,
    failed: Vec<String>,
    not_applicable: BTreeMap<&'static str, usize>,
}

impl Table {
    /// Counts vector `id` of `file`.
    pub(super) fn count(&mut self, algorithm: &str, file: &str, id: usize, verdict: Verdict) {
        let row = self.rows.entry((algorithm.to_owned(), file.to_owned())).or_default();
        row.tests += 1;
        match verdict {
            Verdict::Passed => row.passed += 1,
            Verdict::Failed(why) => row.failed.push(format!("{algorithm} {file} {id}: {why}")),
            Verdict::NotApplicable(reason) => *row.not_applicable.entry(reason).or_default() += 1,
        }
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.rows.values().flat_map(|row| row.failed.iter().cloned()).collect()
    }
}

impl fmt::Display for Table {
    /// In Markdown. Files of which nothing is applicable, for one and the same reason, share a row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| algorithm | vectors | tests | passed of applicable | not applicable |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        let (mut tests, mut passed, mut applicable) = (0, 0, 0);
        let mut left_out: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        for ((algorithm, file), row) in &self.rows {
            let skipped: usize = row.not_applicable.values().sum();
            tests += row.tests;
            passed += row.passed;
            applicable += row.tests - skipped;
            match row.not_applicable.iter().next() {
                Some((reason, _)) if skipped == row.tests && row.not_applicable.len() == 1 => {
                    let of = left_out.entry((algorithm, reason)).or_default();
                    *of = (of.0 + 1, of.1 + row.tests);
                }
                _ => {
                    let reasons: Vec<_> = row
                        .not_applicable
                        .iter()
                        .map(|(reason, count)| format!("{count}: {reason}"))
                        .collect();
                    let of = format!("{} of {}", row.passed, row.tests - skipped);
                    writeln!(f, "| {algorithm} | {file} | {} | {of} | {} |", row.tests, reasons.join("; "))?;
                }
            }
        }
        for ((algorithm, reason), (files, tests)) in left_out {
            let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            writeln!(f, "| {algorithm} | {files} | {tests} | 0 of 0 | {tests}: {reason} |")?;
        }
        writeln!(f, "| all | | {tests} | {passed} of {applicable} | {} |", tests - applicable)
    }
}
