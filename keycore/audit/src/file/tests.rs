use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::entry::{Command, Entry, Outcome, Subject};
use crate::{AuditError, Log, Trust, verify};

fn entry(detail: &str) -> Entry<'_> {
    Entry {
        time_micros: 1_700_000_000_000_000,
        connection: 2,
        peer: None,
        session: None,
        user: None,
        command: Command::Management,
        opcode: 0x30,
        operation: "GenerateKey",
        subject: Subject::Key { id: None, label: "tls/www.example.org" },
        outcome: Outcome::Done,
        detail,
    }
}

fn open_small(dir: &Path) -> (Log, Recovery) {
    let (chain, sink, recovery) = open_with(dir, 0, Sizes { rotate_at: 500, max_segment: 1000 }).unwrap();
    (Log::new(chain, Box::new(sink)), recovery)
}

/// A log of `count` records in segments of at most 1000 bytes, one batch for each record.
fn written(count: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open_small(dir.path());
    for n in 0..count {
        log.append(&entry(&n.to_string())).unwrap();
        log.flush().unwrap();
    }
    dir
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    list(&replica_directory(dir, 0)).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn segments_follow_each_other_and_reopening_goes_on() {
    let dir = written(30);
    assert!(segments(dir.path()).len() > 2);
    let (mut log, recovery) = open_small(dir.path());
    assert_eq!((recovery, log.next_sequence()), (Recovery::default(), 31));
    log.append(&entry("after")).unwrap();
    log.sync().unwrap();
    let report = verify(dir.path(), Trust::default()).unwrap();
    assert_eq!((report.records(), report.replicas[0].head), (31, log.head()));
    for path in segments(dir.path()) {
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.len() <= 1000, "{} has {} bytes", path.display(), metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let mode = fs::metadata(replica_directory(dir.path(), 0)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_log_has_one_writer() {
    let dir = written(1);
    let (first, _) = open_small(dir.path());
    assert!(matches!(open(dir.path(), 0), Err(OpenError::InUse(_))));
    assert!(open(dir.path(), 1).is_ok(), "another replica has its own");
    drop(first);
    assert!(open(dir.path(), 0).is_ok());
}

#[test]
fn an_end_torn_at_any_byte_is_set_aside_and_the_log_goes_on() {
    let dir = written(14);
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    let count_before = list(&replica_directory(dir.path(), 0)).unwrap().last().unwrap().0 - 1;
    for length in 0..whole.len() {
        fs::write(&last, &whole[..length]).unwrap();
        let (mut log, recovery) = open_small(dir.path());
        let kept = log.next_sequence() - 1;
        assert!((count_before..=14).contains(&kept), "cut at {length}: {kept} records are left");
        if let Some(cut) = &recovery.cut {
            let torn = fs::read(&cut.kept_in).unwrap();
            assert_eq!(torn.len() as u64, cut.length);
            assert!(whole[..length].ends_with(&torn));
            fs::remove_file(&cut.kept_in).unwrap();
        }
        log.append(&entry("after the crash")).unwrap();
        log.sync().unwrap();
        let report = verify(dir.path(), Trust::default()).unwrap();
        assert_eq!((report.records(), report.replicas[0].head), (kept + 1, log.head()));
        // The next round begins where this one did.
        drop(log);
        for path in segments(dir.path()).into_iter().filter(|path| *path > last) {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn zeros_and_garbage_behind_the_last_record_are_a_torn_end() {
    for tail in [vec![0; 700], vec![0xa5; 700], b"\0\0\0\x02ab".repeat(20)] {
        let dir = written(14);
        let last = segments(dir.path()).pop().unwrap();
        fs::write(&last, [fs::read(&last).unwrap(), tail.clone()].concat()).unwrap();
        let (log, recovery) = open_small(dir.path());
        assert_eq!(log.next_sequence(), 15);
        assert_eq!(recovery.cut.unwrap().length, tail.len() as u64);
    }
}

#[test]
fn a_record_changed_in_the_middle_is_not_mistaken_for_a_torn_end() {
    let dir = written(14);
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    let mut changed = whole.clone();
    changed[HEADER as usize + 6] ^= 1;
    fs::write(&last, &changed).unwrap();
    let error = open(dir.path(), 0).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { offset: HEADER, .. }), "{error}");
    assert_eq!(fs::read(&last).unwrap(), changed, "left as it was found");
}

#[test]
fn a_failed_write_is_written_over() {
    let dir = written(2);
    let (mut log, _) = open_small(dir.path());
    // What a write that failed half-way leaves behind the end.
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, [&whole[..], &[0xff; 500]].concat()).unwrap();
    log.append(&entry("next")).unwrap();
    log.sync().unwrap();
    assert_eq!(verify(dir.path(), Trust::default()).unwrap().records(), 3);
}

#[test]
fn what_a_failed_fdatasync_may_have_dropped_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut chain, mut sink, _) = open(dir.path(), 0).unwrap();
    let mut batch = Vec::new();
    for n in 0..3 {
        chain.append(&entry(&n.to_string()), &mut batch).unwrap();
    }
    sink.write(&batch).unwrap();
    sink.current.as_mut().unwrap().suspect = true;
    sink.sync().unwrap();
    assert!(!sink.current.as_ref().unwrap().suspect);
    assert_eq!(verify(dir.path(), Trust::default()).unwrap().records(), 3);

    // A second batch, which the disk returns differently.
    batch.clear();
    chain.append(&entry("lost"), &mut batch).unwrap();
    sink.write(&batch).unwrap();
    let current = sink.current.as_mut().unwrap();
    current.suspect = true;
    current.file.write_all_at(&[0; 8], current.end - 40).unwrap();
    assert_eq!(sink.sync().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(sink.sync().is_err(), "and it stays so");
}

#[test]
fn a_directory_that_vanishes_fails_the_log_until_it_is_back() {
    let dir = written(0);
    let (mut log, _) = open_small(dir.path());
    let (here, away) = (replica_directory(dir.path(), 0), dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    log.append(&entry("kept in memory")).unwrap();
    assert!(matches!(log.flush(), Err(AuditError::Sink(_))));
    assert!(!log.healthy());
    fs::rename(&away, &here).unwrap();
    log.sync().unwrap();
    assert!(log.healthy());
    assert_eq!(verify(dir.path(), Trust::default()).unwrap().records(), 1);
}
