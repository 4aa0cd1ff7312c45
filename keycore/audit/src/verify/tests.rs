use std::fs;
use std::sync::LazyLock;

use keycore_wire::{KeyId, RefusalCode, SessionHandle, SignatureScheme, SpkiSha256, UserId};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{Command, Log, Outcome, Peer, Subject, User};

fn entry(n: u64, detail: &str) -> Entry<'_> {
    Entry {
        time_micros: 1000 + n,
        connection: n,
        peer: Some(Peer::Local { uid: 1000, gid: 1000, pid: 42 }),
        session: Some(SessionHandle([4; 16])),
        user: Some(User { id: Some(UserId([7; 16])), name: "web" }),
        command: Command::Data,
        opcode: 0x40,
        operation: "TlsSign",
        subject: Subject::Signature {
            key: Some(KeyId([1; 16])),
            spki: Some(SpkiSha256([2; 32])),
            site: "www.example.org",
            scheme: Some(SignatureScheme::EcdsaP256Sha256),
            message_sha256: [3; 32],
        },
        outcome: if n.is_multiple_of(5) {
            Outcome::Refused(RefusalCode::NotATlsHandshake)
        } else {
            Outcome::Done
        },
        detail,
    }
}

/// Appends `count` records to a replica's log, in one segment; engines that restart append to it.
fn write(dir: &Path, replica: u16, count: u64) {
    let (chain, sink, _) = file::open(dir, replica).unwrap();
    let mut log = Log::new(chain, Box::new(sink));
    for n in 0..count {
        log.append(&entry(n, "ordinary")).unwrap();
    }
    log.sync().unwrap();
}

fn segment(dir: &Path, replica: u16) -> PathBuf {
    file::list(&file::replica_directory(dir, replica)).unwrap().pop().unwrap().1
}

/// The byte ranges of the records of a segment.
fn records(bytes: &[u8]) -> Vec<core::ops::Range<usize>> {
    let mut at = file::HEADER as usize;
    let mut ranges = Vec::new();
    while at < bytes.len() {
        let (body, _) = crate::chain::parse(&bytes[at..]).unwrap();
        ranges.push(at..at + body.len() + crate::chain::OVERHEAD);
        at = ranges.last().unwrap().end;
    }
    ranges
}

/// What the verifier says when the bytes of a log of ten records are changed.
fn tampered(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> VerifyError {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0, 10);
    let path = segment(dir.path(), 0);
    fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
    verify(dir.path(), Trust::default()).unwrap_err()
}

#[test]
fn what_was_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0, 10);
    write(dir.path(), 3, 4);
    let mut seen = Vec::new();
    let report = read(dir.path(), None, 3, &mut |record| {
        assert_eq!(record.entry, entry(record.sequence - 1, "ordinary"));
        seen.push((record.replica, record.sequence));
    })
    .unwrap();
    let expected: Vec<_> = (3..=10).map(|n| (0, n)).chain([(3, 3), (3, 4)]).collect();
    assert_eq!(seen, expected);
    assert_eq!(report.records(), 14);
    assert_eq!(report.replicas[1].span_micros, Some((1000, 1003)));
    assert_eq!(verify(dir.path(), Trust::default()).unwrap(), report);
    assert_eq!(read(dir.path(), Some(3), 1, &mut |_| {}).unwrap().replicas.len(), 1);
}

#[test]
fn nothing_is_not_a_verified_log() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(verify(dir.path(), Trust::default()), Err(VerifyError::Empty(_))));
    assert!(matches!(verify(&dir.path().join("absent"), Trust::default()), Err(VerifyError::Io { .. })));
}

#[test]
fn a_record_taken_out_moved_or_cut_is_named() {
    let taken_out = tampered(|mut bytes| {
        let range = records(&bytes).swap_remove(4);
        bytes.drain(range);
        bytes
    });
    assert!(matches!(taken_out, VerifyError::Broken { sequence: 5, wrong: Wrong::Hash, .. }), "{taken_out}");

    let swapped = tampered(|bytes| {
        let ranges = records(&bytes);
        let (a, b) = (ranges[2].clone(), ranges[3].clone());
        [&bytes[..a.start], &bytes[b.clone()], &bytes[a], &bytes[b.end..]].concat()
    });
    assert!(matches!(swapped, VerifyError::Broken { sequence: 3, wrong: Wrong::Hash, .. }), "{swapped}");

    let cut = tampered(|mut bytes| {
        bytes.truncate(bytes.len() - 7);
        bytes
    });
    assert!(matches!(cut, VerifyError::Broken { sequence: 10, wrong: Wrong::Truncated, .. }), "{cut}");
    assert!(cut.to_string().contains("record 10: the record is cut short"), "{cut}");
}

#[test]
fn a_missing_or_foreign_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let directory = file::replica_directory(dir.path(), 0);
    let (mut chain, mut sink, _) =
        file::open_with(dir.path(), 0, file::Sizes { rotate_at: 700, max_segment: 700 }).unwrap();
    for n in 0..12 {
        let mut batch = Vec::new();
        chain.append(&entry(n, "ordinary"), &mut batch).unwrap();
        crate::Sink::write(&mut sink, &batch).unwrap();
    }
    drop(sink);
    let segments = file::list(&directory).unwrap();
    assert!(segments.len() > 3);
    assert_eq!(verify(dir.path(), Trust::default()).unwrap().records(), 12);

    let (first_of_second, second) = segments[1].clone();
    let content = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    let error = verify(dir.path(), Trust::default()).unwrap_err();
    let VerifyError::Broken { path, sequence, wrong: Wrong::MissingBefore { found }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((path, sequence, found), (segments[2].1.clone(), first_of_second, segments[2].0));
    fs::write(&second, &content).unwrap();

    // Another replica's log in this one's place.
    let other = tempfile::tempdir().unwrap();
    write(other.path(), 1, 12);
    fs::copy(segment(other.path(), 1), &segments[0].1).unwrap();
    let error = verify(dir.path(), Trust::default()).unwrap_err();
    assert!(matches!(error, VerifyError::Broken { wrong: Wrong::Header, .. }), "{error}");
}

#[test]
fn an_incomplete_end_is_excused_while_an_engine_writes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0, 3);
    let (_, sink, _) = file::open(dir.path(), 0).unwrap();
    let path = segment(dir.path(), 0);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let report = verify(dir.path(), Trust::default()).unwrap();
    assert_eq!(report.records(), 2);
    assert!(report.replicas[0].in_progress > 0);
    drop(sink);
    assert!(verify(dir.path(), Trust::default()).is_err(), "nobody writes any more");
}

static LOG: LazyLock<(TempDir, Vec<u8>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0, 4);
    let bytes = fs::read(segment(dir.path(), 0)).unwrap();
    (dir, bytes)
});

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (dir, bytes) = &*LOG;
    let ranges = records(bytes);
    let path = segment(dir.path(), 0);
    let mut changed = bytes.clone();
    // Every byte once, with each bit in turn: 8 neighbours cover all positions of a byte.
    for at in 0..bytes.len() {
        changed[at] ^= 1 << (at % 8);
        fs::write(&path, &changed).unwrap();
        let error = verify(dir.path(), Trust::default()).expect_err(&format!("byte {at}"));
        let VerifyError::Broken { sequence, offset, .. } = error else { panic!("{error}") };
        if let Some(record) = ranges.iter().position(|range| range.contains(&at)) {
            assert_eq!((sequence, offset), (record as u64 + 1, ranges[record].start as u64), "byte {at}");
        }
        changed[at] = bytes[at];
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_overwritten_range_passes(at in 0..2000usize, garbage in proptest::collection::vec(any::<u8>(), 1..64)) {
        let (_, bytes) = &*LOG;
        let at = at % bytes.len();
        let end = (at + garbage.len()).min(bytes.len());
        let mut changed = bytes.clone();
        changed[at..end].copy_from_slice(&garbage[..end - at]);
        prop_assume!(changed != *bytes);
        let dir = tempfile::tempdir().unwrap();
        let directory = file::replica_directory(dir.path(), 0);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("00000000000000000001.log"), &changed).unwrap();
        prop_assert!(verify(dir.path(), Trust::default()).is_err());
    }
}
