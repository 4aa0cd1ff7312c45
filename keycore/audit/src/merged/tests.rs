use std::fs;
use std::io::Write;

use super::*;
use crate::entry::{Entry, Subject};
use crate::file::{self, Sizes};
use crate::{Log, Wrong};

/// A writer whose segments are as long as the test says.
fn writer(dir: &Path, replica: u16, rotate_at: u64) -> Log {
    let sizes = Sizes { rotate_at, max_segment: rotate_at };
    let (chain, sink, _) = file::open_with(dir, replica, sizes).unwrap();
    Log::new(chain, Box::new(sink))
}

fn write(log: &mut Log, times: impl IntoIterator<Item = u64>) {
    for time in times {
        log.append(&Entry::by_engine(time, "Event", Subject::None, "of a test")).unwrap();
        log.flush().unwrap();
    }
}

/// Replica and time of what there is to read now.
fn read_on(merged: &mut Merged) -> Vec<(u16, u64)> {
    let mut seen = Vec::new();
    while let Some(record) = merged.next().unwrap() {
        seen.push((record.replica, record.entry.time_micros));
    }
    seen
}

#[test]
fn following_goes_on_over_segments_starts_and_new_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = writer(dir.path(), 0, 400);
    write(&mut log, 1..=2);
    let mut merged = Merged::new(dir.path(), &[], true).unwrap();
    assert_eq!(read_on(&mut merged), [(0, 1), (0, 2)]);
    assert_eq!(read_on(&mut merged), []);
    write(&mut log, 3..=20);
    let directory = file::replica_directory(dir.path(), 0);
    assert!(file::list(&directory).unwrap().len() > 3);
    assert_eq!(read_on(&mut merged), (3..=20).map(|time| (0, time)).collect::<Vec<_>>());

    // Killed in the middle of a write; the next start sets the end aside and writes on in its place.
    drop(log);
    let (_, last) = file::list(&directory).unwrap().pop().unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(last).unwrap();
    file.write_all(&[0, 0, 0, 60, 1, 2, 3]).unwrap();
    assert_eq!(read_on(&mut merged), []);
    let mut log = writer(dir.path(), 0, 400);
    write(&mut log, [21]);
    assert_eq!(read_on(&mut merged), [(0, 21)]);

    write(&mut writer(dir.path(), 2, 400), [22]);
    assert_eq!(read_on(&mut merged), [], "logs are looked for at the end");
    write(&mut log, [23]);
    assert_eq!(read_on(&mut merged), [(2, 22), (0, 23)]);
}

#[test]
fn only_the_named_replicas_are_read_and_a_broken_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for replica in 0..3 {
        write(&mut writer(dir.path(), replica, 1 << 20), 1..=3);
    }
    assert_eq!(read_on(&mut Merged::new(dir.path(), &[1], false).unwrap()).len(), 3);
    assert!(matches!(Merged::new(dir.path(), &[7], false), Err(VerifyError::Empty(_))));
    let (_, path) = file::list(&file::replica_directory(dir.path(), 2)).unwrap().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut merged = Merged::new(dir.path(), &[], false).unwrap();
    let error = loop {
        match merged.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was not found"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, VerifyError::Broken { sequence: 3, wrong: Wrong::Hash, .. }), "{error}");
}
