//! Every way of tampering with real files, and what the verifier says: with the audit key and the anchor, and without.

use std::fs;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use keycore_wire::{AuditAnchor, ClusterId};
use tempfile::TempDir;

use super::*;
use crate::entry::{Command, Entry, Outcome, Subject};
use crate::file::{HEADER, Sizes, replica_directory};
use crate::{AuditKey, Log};

const CLUSTER: ClusterId = ClusterId([0xcc; 16]);

fn key_pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(seed: u8) -> AuditKey {
    AuditKey(key_pair(seed).public_key().as_ref().try_into().unwrap())
}

/// Appends `count` records to a replica's log, a checkpoint after every third and at the end; segments end at the first
/// checkpoint behind 700 bytes.
fn extend(dir: &Path, replica: u16, seed: u8, count: u64) -> AuditAnchor {
    let sizes = Sizes { rotate_at: 700, max_segment: 100_000 };
    let (chain, sink, _) = file::open_with(dir, replica, sizes).unwrap();
    let mut log = Log::new(chain, Box::new(sink));
    let pair = key_pair(seed);
    let sign = |log: &mut Log| {
        log.checkpoint((CLUSTER, replica), 5, |statement| Some(pair.sign(statement).as_ref().to_vec()))
    };
    for n in 1..=count {
        let detail = format!("record of replica {replica}, {n}th since the start");
        let entry = Entry {
            time_micros: 1000 + n,
            connection: n,
            peer: None,
            session: None,
            user: None,
            command: Command::Data,
            opcode: 0x40,
            operation: "TlsSign",
            subject: Subject::None,
            outcome: Outcome::Done,
            detail: &detail,
        };
        log.append(&entry).unwrap();
        if n % 3 == 0 {
            sign(&mut log).unwrap();
        }
    }
    sign(&mut log).unwrap()
}

/// Segment files of replica 0, in order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    file::list(&replica_directory(dir, 0)).unwrap().into_iter().map(|(_, path)| path).collect()
}

/// Byte ranges of a segment's records.
fn records(bytes: &[u8]) -> Vec<core::ops::Range<usize>> {
    let mut at = usize::try_from(HEADER).unwrap();
    let mut ranges = Vec::new();
    while at < bytes.len() {
        let (body, _) = crate::chain::parse(&bytes[at..]).unwrap();
        ranges.push(at..at + body.len() + crate::chain::OVERHEAD);
        at = ranges[ranges.len() - 1].end;
    }
    ranges
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Makes a segment's bytes whole again as an attacker without the audit key would: every hash anew.
fn forge_chain(bytes: &mut [u8]) {
    let mut head = Head(bytes[24..56].try_into().unwrap());
    for range in records(bytes) {
        let body = range.start + 4..range.end - 32;
        head = head.after(&bytes[body]);
        bytes[range.end - 32..range.end].copy_from_slice(&head.0);
    }
}

fn replace_text(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

/// What the verifier says: the record and what is wrong with it, or that nothing is.
type Verdict = Option<(u64, Wrong)>;

fn verdict(dir: &Path, trust: Trust<'_>) -> Verdict {
    match verify(dir, trust) {
        Ok(_) => None,
        Err(VerifyError::Broken { sequence, wrong, .. }) => Some((sequence, wrong)),
        Err(other) => panic!("{other}"),
    }
}

/// How a log is tampered with. Gets its directory, and a copy of the log as it was after 6 records.
type Tampering = fn(&Path, &Path);

#[test]
fn every_tampering_is_named_with_its_record() {
    let unchanged: Tampering = |_, _| {};
    // Two starts of 6 records and 3 checkpoints each, 18 in all; segments end before a checkpoint.
    #[rustfmt::skip]
    let table: [(&str, Tampering, Verdict, Verdict); 15] = [
        // what was done, how, what the files alone show, what key and anchor show
        ("nothing", unchanged, None, None),
        ("flipped bit", |dir, _| edit(&segments(dir)[0], |bytes| {
            let second = records(bytes)[1].clone();
            bytes[second.start + 20] ^= 4;
        }), Some((2, Wrong::Hash)), Some((2, Wrong::Hash))),
        ("flipped bit in a header", |dir, _| edit(&segments(dir)[1], |bytes| bytes[30] ^= 1),
            Some((8, Wrong::NotContinued)), Some((8, Wrong::NotContinued))),
        ("flipped bit in a boot counter", |dir, _| edit(&segments(dir)[1], |bytes| bytes[15] ^= 2),
            Some((8, Wrong::Header)), Some((8, Wrong::Header))),
        ("deleted record", |dir, _| edit(&segments(dir)[0], |bytes| {
            let third = records(bytes)[2].clone();
            bytes.drain(third);
        }), Some((3, Wrong::Hash)), Some((3, Wrong::Hash))),
        ("swapped records", |dir, _| edit(&segments(dir)[0], |bytes| {
            let ranges = records(bytes);
            let (a, b) = (ranges[0].clone(), ranges[1].clone());
            let swapped = [&bytes[..a.start], &bytes[b.clone()], &bytes[a], &bytes[b.end..]].concat();
            *bytes = swapped;
        }), Some((1, Wrong::Hash)), Some((1, Wrong::Hash))),
        ("truncated record", |dir, _| edit(segments(dir).last().unwrap(), |bytes| bytes.truncate(bytes.len() - 9)),
            Some((18, Wrong::Truncated)), Some((18, Wrong::Truncated))),
        ("last two records cut off", |dir, _| edit(segments(dir).last().unwrap(), |bytes| {
            let ranges = records(bytes);
            bytes.truncate(ranges[ranges.len() - 2].start);
        }), None, Some((17, Wrong::RolledBack { anchor: 17 }))),
        ("whole log put back", |dir, old| {
            fs::remove_dir_all(replica_directory(dir, 0)).unwrap();
            copy(&replica_directory(old, 0), &replica_directory(dir, 0));
        }, None, Some((10, Wrong::RolledBack { anchor: 17 }))),
        ("last segment removed", |dir, _| fs::remove_file(segments(dir).last().unwrap()).unwrap(),
            None, Some((17, Wrong::RolledBack { anchor: 17 }))),
        ("segment in the middle removed", |dir, _| fs::remove_file(&segments(dir)[1]).unwrap(),
            Some((8, Wrong::MissingBefore { found: 17 })), Some((8, Wrong::MissingBefore { found: 17 }))),
        ("whole log removed", |dir, _| {
            fs::remove_dir_all(replica_directory(dir, 0)).unwrap();
            extend(dir, 1, 1, 1);
        }, None, Some((1, Wrong::RolledBack { anchor: 17 }))),
        ("log of another replica", |dir, _| {
            fs::remove_dir_all(replica_directory(dir, 0)).unwrap();
            extend(dir, 1, 1, 12);
            fs::rename(replica_directory(dir, 1), replica_directory(dir, 0)).unwrap();
        }, Some((1, Wrong::Header)), Some((1, Wrong::Header))),
        ("log of another cluster", |dir, _| {
            fs::remove_dir_all(replica_directory(dir, 0)).unwrap();
            extend(dir, 0, 2, 12);
        }, None, Some((4, Wrong::Signature))),
        ("written anew, every hash right", |dir, _| {
            edit(&segments(dir)[0], |bytes| {
                replace_text(bytes, b"replica 0, 2th", b"replica 0, 9th");
                forge_chain(bytes);
            });
        }, Some((8, Wrong::NotContinued)), Some((4, Wrong::Signature))),
    ];
    for (what, tamper, by_files, by_anchor) in table {
        let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        extend(dir.path(), 0, 1, 6);
        copy(&replica_directory(dir.path(), 0), &replica_directory(old.path(), 0));
        let anchor = extend(dir.path(), 0, 1, 6);
        tamper(dir.path(), old.path());
        assert_eq!(verdict(dir.path(), Trust::default()), by_files, "{what}, by the files alone");
        let trust = Trust { key: Some(public(1)), anchors: &[anchor] };
        assert_eq!(verdict(dir.path(), trust), by_anchor, "{what}, by key and anchor");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_log_without_its_oldest_segments_verifies_from_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    extend(dir.path(), 0, 1, 40);
    let trust = Trust { key: Some(public(1)), anchors: &[] };
    let whole = verify(dir.path(), trust).unwrap().replicas.remove(0);
    let all = file::list(&replica_directory(dir.path(), 0)).unwrap();
    assert!(all.len() > 3);
    for (_, path) in &all[..2] {
        fs::remove_file(path).unwrap();
    }
    let rest = verify(dir.path(), trust).unwrap().replicas.remove(0);
    assert_eq!((rest.first, rest.head), (all[2].0, whole.head));
    assert_eq!(rest.first + rest.records, whole.records + 1);
    // Another key's checkpoint vouches for nothing, and neither does an ordinary record.
    let another = Trust { key: Some(public(2)), anchors: &[] };
    assert_eq!(verdict(dir.path(), another), Some((all[2].0, Wrong::Signature)));
    edit(&all[2].1, |bytes| {
        let ranges = records(bytes);
        let after: [u8; 32] = bytes[ranges[0].end - 32..ranges[0].end].try_into().unwrap();
        bytes.drain(ranges[0].clone());
        bytes[16..24].copy_from_slice(&(all[2].0 + 1).to_be_bytes());
        bytes[24..56].copy_from_slice(&after);
    });
    let moved = replica_directory(dir.path(), 0).join(format!("{:020}.log", all[2].0 + 1));
    fs::rename(&all[2].1, moved).unwrap();
    assert_eq!(verdict(dir.path(), trust), Some((all[2].0 + 1, Wrong::NoCheckpoint)));
}

#[test]
fn each_start_counts_in_the_boot_counter() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    for boot in 1..=3 {
        assert_eq!(extend(dir.path(), 0, 1, 2).boot, boot);
    }
    let mut boots = Vec::new();
    read(dir.path(), Some(0), 1, &mut |record| boots.push(record.boot)).unwrap();
    assert_eq!(boots, [1, 1, 1, 2, 2, 2, 3, 3, 3]);
}
