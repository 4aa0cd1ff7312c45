//! `hsm audit`: reads logs and holds them against what is known besides. Needs no engine but for anchors.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use keycore_audit::Trust;
use serde_json::json;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::OutputFile;
use crate::output::{Answer, table};

mod anchors;
mod record;

use anchors::{TrustArguments, Trusted};
use record::{HEAD, Line, line, moment};

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Recompute the chain of every replica's log; names the first record that was changed, dropped or moved
    #[command(
        after_help = "With a key, every checkpoint's signature is checked; with anchors, also that no log was cut off or put \
                            back: hsm audit verify --public-key audit.pem --live"
    )]
    Verify {
        #[command(flatten)]
        log: LogDirectory,
        #[command(flatten)]
        trust: TrustArguments,
    },
    /// Show where each replica's log stands, signed; keep it elsewhere to prove later that nothing was cut off
    Anchors {
        /// File to write them to, for `hsm audit verify --anchors`; replaced if it is there
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write the key that signs the logs' checkpoints
    PublicKey(OutputFile),
    /// Show the latest records of all replicas
    Tail {
        #[command(flatten)]
        log: LogDirectory,
        /// How many
        #[arg(long, short = 'n', default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: u32,
    },
}

/// Where logs are.
#[derive(Debug, Args)]
pub(crate) struct LogDirectory {
    /// Directory of the log: audit in the engine's state-dir
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/hsm-engine/audit")]
    dir: PathBuf,
}

impl AuditCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            // The anchors first: a log that goes on meanwhile is only longer.
            Self::Verify { log, trust } => verify(&log.dir, &trust.load(connection)?),
            Self::Anchors { out } => anchors::show(connection, out.as_deref()),
            Self::PublicKey(out) => anchors::public_key(connection, out),
            Self::Tail { log, count } => tail(&log.dir, usize::try_from(*count).unwrap_or(usize::MAX)),
        }
    }
}

fn verify(dir: &Path, trusted: &Trusted) -> Result<Answer, Failure> {
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
        "{}\n{} records, each in its place and unchanged; {signatures}; {anchored}.",
        table(head, &rows),
        report.records()
    );
    let data = json!({
        "records": report.records(),
        "signatures_checked": trusted.key.is_some(),
        "anchors_checked": trusted.anchors.len(),
        "replicas": views,
    });
    Ok(Answer::new(text, data))
}

fn tail(dir: &Path, count: usize) -> Result<Answer, Failure> {
    let report = keycore_audit::verify(dir, Trust::default())?;
    let mut latest: Vec<Line> = Vec::new();
    for replica in &report.replicas {
        let last = replica.first + replica.records;
        let from = last.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)).max(replica.first);
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
    Ok(Answer::new(table(HEAD, &rows), json!({ "records": views })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_log_is_a_failure_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let trusted = Trusted { key: None, anchors: Vec::new() };
        for failure in [verify(directory.path(), &trusted).err(), tail(directory.path(), 1).err()] {
            let failure = failure.expect("an empty directory is no log");
            assert_eq!(failure.exit_code(), Failure::DATA);
            assert!(failure.to_string().contains(&directory.path().display().to_string()));
        }
    }
}
