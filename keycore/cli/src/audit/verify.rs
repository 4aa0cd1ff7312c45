//! `hsm audit verify`

use std::path::Path;

use data_encoding::HEXLOWER;
use keycore_audit::Trust;
use serde_json::json;

use super::anchors::Trusted;
use super::record::moment;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_log_is_a_failure_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let trusted = Trusted { key: None, anchors: Vec::new() };
        let failure = verify(directory.path(), &trusted).err().expect("an empty directory is no log");
        assert_eq!(failure.exit_code(), Failure::DATA);
        assert!(failure.to_string().contains(&directory.path().display().to_string()));
    }
}
