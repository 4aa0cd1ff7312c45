//! Audit logs that were changed, with the chain broken and with the chain made good again.

#![allow(clippy::unwrap_used)]

mod checks;
#[path = "../../../wire/tests/malformed/mutation.rs"]
mod mutation;

use std::fs;

use keycore_audit::{Command, Entry, Log, Outcome, Peer, Subject, User, file};
use keycore_wire::{ClusterId, KeyId, RefusalCode, SessionHandle, SignatureScheme, SpkiSha256, UserId};
use mutation::{Random, mutate};
use tempfile::TempDir;

fn directory() -> TempDir {
    // Thousands of small files are written.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn entry(n: u64) -> Entry<'static> {
    Entry {
        time_micros: 1000 + n,
        connection: n,
        peer: Some(Peer::Local { uid: 1000, gid: 1000, pid: 42 }),
        session: Some(SessionHandle([4; 16])),
        user: Some(User { id: Some(UserId([7; 16])), name: "web" }),
        command: Command::Data,
        opcode: 0x40,
        operation: "TlsSign",
        subject: match n % 3 {
            0 => Subject::Checkpoint { cluster: ClusterId([0xcc; 16]), signature: &[5; 64] },
            1 => Subject::None,
            _ => Subject::Signature {
                key: Some(KeyId([1; 16])),
                spki: Some(SpkiSha256([2; 32])),
                site: "www.example.org",
                scheme: Some(SignatureScheme::EcdsaP256Sha256),
                message_sha256: [3; 32],
            },
        },
        outcome: if n == 4 { Outcome::Refused(RefusalCode::NotATlsHandshake) } else { Outcome::Done },
        detail: "",
    }
}

/// A segment of six records, and where each entry begins and ends.
fn written() -> (Vec<u8>, Vec<core::ops::Range<usize>>) {
    let directory = directory();
    let (chain, sink, _) = file::open(directory.path(), 0).unwrap();
    let mut log = Log::new(chain, Box::new(sink));
    for n in 1..=6 {
        log.append(&entry(n)).unwrap();
    }
    log.sync().unwrap();
    let bytes = fs::read(checks::first_segment(directory.path())).unwrap();
    let (mut at, mut entries) = (checks::HEADER, Vec::new());
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(bytes[at + 5], 1, "the boot counter, behind the number");
        entries.push(at + 6..at + 4 + length);
        at += 4 + length + 32;
    }
    (bytes, entries)
}

#[test]
fn no_changed_log_verifies_but_one_cut_between_records() {
    let (whole, entries) = written();
    let directory = directory();
    assert!(checks::segment(directory.path(), &whole));
    let ends: Vec<_> = entries.iter().map(|range| range.end + 32).chain([checks::HEADER]).collect();
    let mut random = Random(7);
    for n in 0..10_000 {
        let mut bytes = whole.clone();
        mutate(&mut random, &mut bytes);
        // What is missing at the end, checkpoints and anchors show.
        let cut = ends.contains(&bytes.len()) && whole.starts_with(&bytes);
        assert_eq!(checks::segment(directory.path(), &bytes), cut, "change {n}: {bytes:02x?}");
    }
}

#[test]
fn changed_entries_in_a_chain_that_was_made_good_are_read_or_refused() {
    let (whole, ranges) = written();
    let directory = directory();
    let entries: Vec<_> = ranges.into_iter().map(|range| &whole[range]).collect();
    let mut header: [u8; checks::HEADER] = whole[..checks::HEADER].try_into().unwrap();
    assert_eq!(checks::forged(&header, &entries), whole, "the format is as the checks know it");
    let mut random = Random(8);
    let (mut verified, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut changed = entries[random.below(entries.len())].to_vec();
        mutate(&mut random, &mut changed);
        let bytes = checks::forged(&header, &[entries[0], &changed]);
        *(if checks::segment(directory.path(), &bytes) { &mut verified } else { &mut refused }) += 1;
    }
    // The end of all numbers, behind a checkpoint (the third entry is one), as a log has whose oldest segments are gone.
    for (first, good) in [(u64::MAX - 2, true), (u64::MAX - 1, false), (u64::MAX, false)] {
        header[16..24].copy_from_slice(&first.to_be_bytes());
        let bytes = checks::forged(&header, &[entries[2], entries[0]]);
        assert_eq!(checks::segment(directory.path(), &bytes), good, "{first}");
    }
    assert!(verified > 1000 && refused > 1000, "{verified} verified, {refused} refused");
}
