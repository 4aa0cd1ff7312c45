use std::fs;
use std::path::{Path, PathBuf};

use keycore_wire::{AuditAnchor, ClusterId};

use super::*;
use crate::entry::Entry;
use crate::file::{Sizes, open_with, replica_directory};
use crate::{Log, Trust, verify};

const MINUTE: u64 = 60_000_000;

/// A log of some segments, begun a minute apart, and its anchor after each.
fn log(dir: &Path, segments: u64) -> (Log, Vec<AuditAnchor>) {
    let (chain, sink, _) = open_with(dir, 0, Sizes { rotate_at: 400, max_segment: 100_000 }).unwrap();
    let mut log = Log::new(chain, Box::new(sink));
    let mut anchors = Vec::new();
    for n in 0..segments {
        for _ in 0..4 {
            let text = "a record of a hundred bytes, or somewhat more";
            log.append(&Entry::by_engine(n * MINUTE, "Event", Subject::None, text)).unwrap();
        }
        anchors.push(checkpoint(&mut log, (n + 1) * MINUTE));
    }
    (log, anchors)
}

fn checkpoint(log: &mut Log, at_micros: u64) -> AuditAnchor {
    log.checkpoint((ClusterId([1; 16]), 0), at_micros, |_| Some(vec![0; 64])).unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    segment::list(&replica_directory(dir, 0)).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn what_is_too_old_goes_and_the_rest_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, anchors) = log(dir.path(), 6);
    let before = segments(dir.path());
    assert_eq!(before.len(), 7, "each checkpoint began one");
    let keep = Retention { age: Some(Duration::from_secs(150)), bytes: None };
    let now = 6 * MINUTE;
    // Begun at 0, 1, …, 6 minutes: what ended before 3:30 goes.
    let outlived = log.prune(&keep, now, anchors[5].sequence).unwrap().unwrap();
    assert_eq!(segments(dir.path()), before[3..]);
    assert_eq!((outlived.segments, outlived.first_kept), (3, anchors[2].sequence + 1));
    let report = verify(dir.path(), Trust { key: None, anchors: &anchors[5..] }).unwrap();
    assert_eq!(report.replicas[0].first, outlived.first_kept);
    let mut told = Vec::new();
    crate::read(dir.path(), None, 1, &mut |record| {
        if record.entry.operation == "AuditPrune" {
            told.push(record.entry.detail.to_owned());
        }
    })
    .unwrap();
    assert_eq!(told, [outlived.to_string()]);
    assert_eq!(log.prune(&keep, now, anchors[5].sequence).unwrap(), None, "once");
    // An engine that starts goes on, and finds its anchor.
    drop(log);
    let (chain, sink, _) = crate::file::open(dir.path(), 0).unwrap();
    let mut log = Log::new(chain, Box::new(sink));
    assert_eq!(log.head_at(anchors[5].sequence).unwrap(), crate::Past::Was(Head(anchors[5].head)));
    assert_eq!(log.head_at(anchors[1].sequence).unwrap(), crate::Past::Unknown);
}

#[test]
fn what_is_too_much_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, anchors) = log(dir.path(), 6);
    let before = segments(dir.path());
    let last: u64 = before[4..].iter().map(|path| path.metadata().unwrap().len()).sum();
    let keep = Retention { age: None, bytes: Some(last) };
    log.prune(&keep, 0, anchors[5].sequence).unwrap().unwrap();
    assert_eq!(segments(dir.path()), before[4..]);
    verify(dir.path(), Trust { key: None, anchors: &anchors[5..] }).unwrap();
}

#[test]
fn nothing_goes_that_is_not_anchored_or_does_not_end_at_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, anchors) = log(dir.path(), 4);
    let before = segments(dir.path());
    let all = Retention { age: Some(Duration::ZERO), bytes: Some(0) };
    assert_eq!(log.prune(&Retention::default(), u64::MAX, u64::MAX).unwrap(), None, "off");
    assert_eq!(log.prune(&all, u64::MAX, anchors[0].sequence - 1).unwrap(), None);
    assert_eq!(segments(dir.path()), before);
    log.prune(&all, u64::MAX, anchors[1].sequence).unwrap().unwrap();
    assert_eq!(segments(dir.path()), before[2..]);
    // The beginning of a segment is not a checkpoint: what lies before it stays.
    let mut bytes = fs::read(&before[3]).unwrap();
    bytes[HEADER as usize + 10] ^= 1;
    fs::write(&before[3], bytes).unwrap();
    let kept = log.prune(&all, u64::MAX, anchors[2].sequence).unwrap();
    assert_eq!(kept, None);
    assert_eq!(segments(dir.path()), before[2..]);
}
