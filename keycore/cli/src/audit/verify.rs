//! `hsm audit verify`

use std::path::Path;

use data_encoding::HEXLOWER;
use keycore_audit::{Changes, ReplicaReport, Trust};
use serde_json::json;

use super::anchors::Trusted;
use super::record::{HEAD, Line, line, moment};
use crate::failure::Failure;
use crate::output::{Answer, table};

pub(super) fn verify(dir: &Path, trusted: &Trusted) -> Result<Answer, Failure> {
    let report = keycore_audit::verify(dir, Trust { key: trusted.key, anchors: &trusted.anchors })?;
    let time = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), moment);
    let head = ["REPLICA", "SEGMENTS", "RECORDS", "FROM", "SIGNED TO", "BOOT", "FIRST", "LAST", "HEAD"];
    let rows: Vec<_> = report
        .replicas
        .iter()
        .map(|replica| {
            [
                replica.replica.to_string(),
                replica.segments.to_string(),
                replica.records.to_string(),
                replica.first.to_string(),
                replica.signed_to.to_string(),
                replica.boot.to_string(),
                time(replica.span_micros.map(|(first, _)| first)),
                time(replica.span_micros.map(|(_, last)| last)),
                HEXLOWER.encode(&replica.head.0),
            ]
        })
        .collect();
    let views: Vec<_> = report
        .replicas
        .iter()
        .map(|replica| {
            json!({
                "replica": replica.replica,
                "segments": replica.segments,
                "first": replica.first,
                "records": replica.records,
                "boot": replica.boot,
                "checkpoints": replica.checkpoints,
                "signed_to": replica.signed_to,
                "first_at": replica.span_micros.map(|(first, _)| moment(first)),
                "last_at": replica.span_micros.map(|(_, last)| moment(last)),
                "head": HEXLOWER.encode(&replica.head.0),
                "bytes_in_progress": replica.in_progress,
                "changes": replica.changes.begun,
                "changes_in_progress": replica.changes.in_progress,
                "changes_unfinished": replica.changes.unfinished,
                "unfinished": unfinished(replica).map(|line| line.view).collect::<Vec<_>>(),
            })
        })
        .collect();
    let signatures = match trusted.key {
        Some(_) => "every checkpoint is signed by the audit key",
        None => "the checkpoints' signatures were not checked: --public-key FILE",
    };
    let anchored = match &trusted.anchors[..] {
        [] => "not held against anchors, so an end may be cut off: --live, or --anchors FILE",
        _ => "each log leads through its anchor",
    };
    let text = format!(
        "{}\n{} records, each in its place and unchanged; {signatures}; {anchored}.\n{}",
        table(head, &rows),
        report.records(),
        told(&report.replicas)
    );
    let data = json!({
        "records": report.records(),
        "signatures_checked": trusted.key.is_some(),
        "anchors_checked": trusted.anchors.len(),
        "replicas": views,
    });
    Ok(Answer::new(text, data))
}

/// The changes without an outcome, as far as they are named.
fn unfinished(replica: &ReplicaReport) -> impl Iterator<Item = Line> {
    replica.changes.named.iter().filter_map(|begun| Some(line(&begun.record()?)))
}

/// How many changes there were, and which have no record of how they ended.
fn told(replicas: &[ReplicaReport]) -> String {
    let sum = |part: fn(&Changes) -> u64| replicas.iter().map(|replica| part(&replica.changes)).sum::<u64>();
    let (begun, left) = (sum(|changes| changes.begun), sum(|changes| changes.unfinished));
    let running = match sum(|changes| changes.in_progress) {
        0 => String::new(),
        running => format!(", {running} in progress"),
    };
    if left == 0 {
        return format!("{begun} changes{running}, each that ended with a record of how.");
    }
    let rows: Vec<_> = replicas.iter().flat_map(unfinished).map(|line| line.row).collect();
    let more = match left - rows.len() as u64 {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    format!(
        "{begun} changes{running}; {left} have no record of how they ended: the engine was killed in between, or could not write \
         it. They may or may not have been made, so look:\n{}{more}",
        table(HEAD, &rows)
    )
}

#[cfg(test)]
mod tests {
    use keycore_audit::{Command, Entry, Log, Outcome, Subject, file};

    use super::*;

    #[test]
    fn a_change_without_an_outcome_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, sink, _) = file::open(dir.path(), 0).unwrap();
        let mut log = Log::new(chain, Box::new(sink));
        for (user, outcome) in [("ann", Outcome::Begun), ("ann", Outcome::Done), ("ben", Outcome::Begun)] {
            let at = user.len() as u64 + u64::from(user.as_bytes()[0]);
            log.append(&Entry {
                command: Command::Management,
                opcode: 0x20,
                outcome,
                ..Entry::by_engine(at, "UserCreate", Subject::User(user), "")
            })
            .unwrap();
        }
        log.sync().unwrap();
        let trusted = Trusted { key: None, anchors: Vec::new() };
        let shown = |dir: &Path| {
            let report = keycore_audit::verify(dir, Trust::default()).unwrap();
            verify(dir, &trusted).unwrap();
            told(&report.replicas)
        };
        assert_eq!(shown(dir.path()), "2 changes, 1 in progress, each that ended with a record of how.");
        drop(log);
        let text = shown(dir.path());
        assert!(text.starts_with("2 changes; 1 have no record of how they ended"), "{text}");
        assert!(text.contains("0/3     -     UserCreate  user ben  begun"), "{text}");
        assert!(!text.contains("ann"), "{text}");
    }

    #[test]
    fn a_missing_log_is_a_failure_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let trusted = Trusted { key: None, anchors: Vec::new() };
        let failure = verify(directory.path(), &trusted).err().expect("an empty directory is no log");
        assert_eq!(failure.exit_code(), Failure::DATA);
        assert!(failure.to_string().contains(&directory.path().display().to_string()));
    }
}
