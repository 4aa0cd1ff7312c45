use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use data_encoding::HEXLOWER;
use keycore_audit::{Outcome, Record, Subject};
use keycore_wire::UnixMillis;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::key_argument::SchemeArgument;
use crate::output::{Answer, table, timestamp};

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Recompute the chain of every replica's log; names the first record that was changed, dropped or moved
    Verify {
        /// Directory of the log: audit in the engine's state-dir
        #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/hsm-engine/audit")]
        dir: PathBuf,
    },
    /// Show the latest records of all replicas
    Tail {
        /// Directory of the log: audit in the engine's state-dir
        #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/hsm-engine/audit")]
        dir: PathBuf,
        /// How many
        #[arg(long, short = 'n', default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: u32,
    },
}

impl AuditCommand {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        match self {
            Self::Verify { dir } => verify(dir),
            Self::Tail { dir, count } => tail(dir, usize::try_from(*count).unwrap_or(usize::MAX)),
        }
    }
}

fn verify(dir: &Path) -> Result<Answer, Failure> {
    let report = keycore_audit::verify(dir)?;
    let time = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), moment);
    let head = ["REPLICA", "SEGMENTS", "RECORDS", "FIRST", "LAST", "HEAD"];
    let rows: Vec<_> = report
        .replicas
        .iter()
        .map(|replica| {
            [
                replica.replica.to_string(),
                replica.segments.to_string(),
                replica.records.to_string(),
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
                "records": replica.records,
                "first_at": replica.span_micros.map(|(first, _)| moment(first)),
                "last_at": replica.span_micros.map(|(_, last)| moment(last)),
                "head": HEXLOWER.encode(&replica.head.0),
                "bytes_in_progress": replica.in_progress,
            })
        })
        .collect();
    let text = format!(
        "{}\n{} records, each in its place and unchanged. Keep the heads elsewhere: they prove later that nothing\n\
         was cut off the end.",
        table(head, &rows),
        report.records()
    );
    Ok(Answer::new(text, json!({ "records": report.records(), "replicas": views })))
}

/// A record as it is shown.
struct Line {
    at_micros: u64,
    replica: u16,
    row: [String; 7],
    view: Value,
}

fn tail(dir: &Path, count: usize) -> Result<Answer, Failure> {
    let report = keycore_audit::verify(dir)?;
    let mut latest: Vec<Line> = Vec::new();
    for replica in &report.replicas {
        let from = replica.records.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)).saturating_add(1);
        let mut lines = VecDeque::new();
        // The log may have grown since: only the latest are kept.
        keycore_audit::read(dir, Some(replica.replica), from, &mut |record| {
            if lines.len() == count {
                lines.pop_front();
            }
            lines.push_back(line(record));
        })?;
        latest.extend(lines);
    }
    latest.sort_by_key(|line| (line.at_micros, line.replica));
    latest.drain(..latest.len().saturating_sub(count));
    let (rows, views): (Vec<_>, Vec<_>) = latest.into_iter().map(|line| (line.row, line.view)).unzip();
    let head = ["TIME", "RECORD", "USER", "OPERATION", "SUBJECT", "OUTCOME", "DETAIL"];
    Ok(Answer::new(table(head, &rows), json!({ "records": views })))
}

fn line(record: &Record<'_>) -> Line {
    let entry = &record.entry;
    let outcome = match entry.outcome {
        Outcome::Done => "done",
        Outcome::Refused(code) => code.name(),
    };
    let user = entry.user.as_ref().map_or("-", |user| user.name);
    let row = [
        moment(entry.time_micros),
        format!("{}/{}", record.replica, record.sequence),
        printable(user),
        printable(entry.operation),
        subject(&entry.subject),
        outcome.to_owned(),
        printable(entry.detail),
    ];
    let view = json!({
        "time": moment(entry.time_micros),
        "time_micros": entry.time_micros,
        "replica": record.replica,
        "sequence": record.sequence,
        "connection": entry.connection,
        "peer": entry.peer.map(|peer| json!({ "uid": peer.uid, "gid": peer.gid, "pid": peer.pid })),
        "user": entry.user.as_ref().map(|user| user.name),
        "user_id": entry.user.as_ref().and_then(|user| user.id).map(|id| id.to_string()),
        "operation": entry.operation,
        "subject": subject_view(&entry.subject),
        "outcome": outcome,
        "detail": entry.detail,
        "head": HEXLOWER.encode(&record.head.0),
    });
    Line { at_micros: entry.time_micros, replica: record.replica, row, view }
}

fn subject(subject: &Subject<'_>) -> String {
    match subject {
        Subject::None => String::new(),
        Subject::User(name) => format!("user {}", printable(name)),
        Subject::Key { label, .. } => format!("key {}", printable(label)),
        Subject::Signature { key, spki, site, scheme, .. } => {
            let key = key
                .map(|id| id.to_string())
                .or_else(|| spki.map(|spki| format!("spki:{spki}")))
                .unwrap_or_else(|| "?".to_owned());
            let scheme =
                scheme.map(|scheme| format!(", {}", SchemeArgument(scheme).name())).unwrap_or_default();
            let site = if site.is_empty() { String::new() } else { format!(" for {}", printable(site)) };
            format!("signature by {key}{scheme}{site}")
        }
    }
}

fn subject_view(subject: &Subject<'_>) -> Value {
    match subject {
        Subject::None => Value::Null,
        Subject::User(name) => json!({ "user": name }),
        Subject::Key { id, label } => json!({ "key": id.map(|id| id.to_string()), "label": label }),
        Subject::Signature { key, spki, site, scheme, message_sha256 } => json!({
            "key": key.map(|id| id.to_string()),
            "spki_sha256": spki.map(|spki| spki.to_string()),
            "site": site,
            "scheme": scheme.map(|scheme| SchemeArgument(scheme).name()),
            "message_sha256": HEXLOWER.encode(message_sha256),
        }),
    }
}

/// Text that came from a peer: no control characters, which would steer the reader's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn moment(micros: u64) -> String {
    timestamp(UnixMillis(micros / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_does_not_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(subject(&Subject::Key { id: None, label: "x\r" }), "key x\u{fffd}");
    }

    #[test]
    fn a_missing_log_is_a_failure_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        for failure in [verify(directory.path()).err(), tail(directory.path(), 1).err()] {
            let failure = failure.expect("an empty directory is no log");
            assert_eq!(failure.exit_code(), Failure::DATA);
            assert!(failure.to_string().contains(&directory.path().display().to_string()));
        }
    }
}
