//! What must hold for any bytes at all. Shared by the stable test beside this file and the fuzz target `audit` in `fuzz/`.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use keycore_audit::{Trust, VerifyError, read, verify};

/// Length of a segment's header.
pub(crate) const HEADER: usize = 56;

/// The first segment of replica 0's log below `log`.
pub(crate) fn first_segment(log: &Path) -> PathBuf {
    log.join("engine-0").join("00000000000000000001.log")
}

/// Puts `bytes` in the place of the first segment: the log verifies, and its records are read with numbers without a gap; or
/// the verifier says what is wrong, and no record from there on is given.
pub(crate) fn segment(log: &Path, bytes: &[u8]) -> bool {
    fs::create_dir_all(log.join("engine-0")).unwrap();
    fs::write(first_segment(log), bytes).unwrap();
    let (mut records, mut next) = (0, None);
    let given = read(log, None, 1, &mut |record| {
        assert!(next.is_none_or(|next| next == record.sequence), "a gap before {}", record.sequence);
        records += 1;
        next = record.sequence.checked_add(1);
    });
    match (verify(log, Trust::default()), given) {
        (Ok(report), Ok(again)) => {
            assert_eq!((report.records(), &report), (records, &again));
            true
        }
        (Err(error), Err(_)) => {
            assert!(!error.to_string().is_empty());
            if let VerifyError::Broken { sequence, .. } = error {
                assert!(next.is_none_or(|next| next == sequence), "{error}");
            }
            false
        }
        (one, other) => panic!("{one:?}, and then {other:?}"),
    }
}

/// Writes records with the given entries, whatever is in them, behind a segment's header, with every number and hash right, as
/// anybody can who knows the format. They begin with the number and the head that the header claims, in boot 1.
pub(crate) fn forged(header: &[u8; HEADER], entries: &[&[u8]]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    let mut number = u64::from_be_bytes(header[16..24].try_into().unwrap());
    let mut head: [u8; 32] = header[24..].try_into().unwrap();
    for entry in entries.iter().take(100) {
        let mut body = varint(number);
        body.push(1);
        body.extend_from_slice(entry);
        head = digest(&SHA256, &[&head[..], &body].concat()).as_ref().try_into().unwrap();
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend([&body[..], &head].concat());
        number = number.wrapping_add(1);
    }
    bytes
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}
