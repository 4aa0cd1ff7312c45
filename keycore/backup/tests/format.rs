//! Backups written, read, damaged; and opened by the reference implementation of age.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::process::{Command, Stdio};

use keycore_backup::{
    BackupError, BackupReader, BackupWriter, ClusterKey, Identity, Item, Manifest, Opener, Recipient,
    SealedRecord, Written,
};
use keycore_wire::{ClusterId, Secret, UnixMillis};

const RECORDS: u64 = 500;

fn identity(fill: u8) -> Identity {
    Identity::from_bytes(&mut [fill; 32])
}

fn record(n: u64) -> SealedRecord {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let sealed = vec![u8::try_from(n % 256).unwrap(); 400 + usize::try_from(n).unwrap()];
    SealedRecord { kind: 4, id, version: n, index: vec![[7; 32]], group: None, sealed }
}

fn write(recipients: &[Recipient]) -> (Vec<u8>, Written) {
    let manifest = Manifest {
        cluster: ClusterId([0xcc; 16]),
        revision: 900,
        made_at: UnixMillis(1_700_000_000_000),
        engine: "0.1.0".to_owned(),
        counts: vec![(1, 1), (4, RECORDS)],
        recipients: Vec::new(),
        payload_sha256: [0; 32],
    };
    let mut writer = BackupWriter::new(Cursor::new(Vec::new()), manifest, recipients).unwrap();
    let keys = vec![ClusterKey { generation: 1, key: Secret::new(vec![0x77; 32]) }];
    writer.add(&Item::Cluster { cluster: ClusterId([0xcc; 16]), revision: 900, keys }).unwrap();
    for n in 0..RECORDS {
        writer.add(&Item::Record(record(n))).unwrap();
    }
    writer.add(&Item::End { records: RECORDS }).unwrap();
    let (file, written) = writer.finish().unwrap();
    (file.into_inner(), written)
}

/// Reads in pieces; how many records there were.
fn read(file: &[u8], piece: usize, opener: Opener) -> Result<(u64, Manifest), BackupError> {
    let mut reader = BackupReader::new(opener);
    let (mut records, mut ends) = (0, 0);
    let mut each = |item: Item| {
        match item {
            Item::Cluster { keys, .. } => assert_eq!(keys[0].key.expose(), [0x77; 32]),
            Item::Record(found) => {
                let expected = record(records);
                assert_eq!((found.id, found.version), (expected.id, expected.version));
                assert_eq!((found.sealed, found.index), (expected.sealed, expected.index));
                records += 1;
            }
            Item::End { records } => {
                assert_eq!(records, RECORDS);
                ends += 1;
            }
        }
        Ok::<_, BackupError>(())
    };
    for piece in file.chunks(piece) {
        reader.push(piece, &mut each)?;
    }
    let manifest = reader.finish(&mut each)?;
    assert_eq!(ends, 1);
    Ok((records, manifest))
}

#[test]
fn every_recipient_reads_it_in_pieces_of_any_size() {
    let recipients = [1, 2].map(|fill| identity(fill).recipient().unwrap());
    let (file, written) = write(&recipients);
    assert_eq!(written.size, file.len() as u64);
    assert_eq!(BackupReader::peek(&file[..]).unwrap(), written.manifest);
    assert_eq!(written.manifest.recipients, recipients.map(|recipient| recipient.fingerprint()));
    for (fill, piece) in [(1, 1000), (2, 65_536), (1, file.len()), (2, 17)] {
        let (records, manifest) = read(&file, piece, Opener::Identity(identity(fill))).unwrap();
        assert_eq!((records, &manifest), (RECORDS, &written.manifest));
    }
    assert_eq!(read(&file, 4096, Opener::FileKey(written.file_key)).unwrap().0, RECORDS);
}

#[test]
fn another_identity_is_told_so() {
    let (file, _) = write(&[identity(1).recipient().unwrap()]);
    let error = read(&file, 4096, Opener::Identity(identity(3))).unwrap_err();
    assert!(matches!(error, BackupError::WrongIdentity { .. }), "{error}");
    let wanted = identity(1).recipient().unwrap().fingerprint().to_string();
    assert!(error.to_string().contains(&wanted), "{error}");
}

#[test]
fn every_cut_and_every_flipped_byte_is_found() {
    let (file, _) = write(&[identity(1).recipient().unwrap()]);
    let open = |file: &[u8]| read(file, 65_536, Opener::Identity(identity(1)));
    let header = file.windows(4).position(|bytes| bytes == b"--- ").unwrap() + 48;
    for length in (0..header + 20).chain((header..file.len()).step_by(4999)).chain([file.len() - 1]) {
        let error = open(&file[..length]).unwrap_err();
        assert!(matches!(error, BackupError::Truncated(_)), "cut to {length}: {error}");
    }
    for at in (0..header + 20).chain((header..file.len()).step_by(4999)).chain([file.len() - 1]) {
        let mut flipped = file.clone();
        flipped[at] ^= 1;
        let error = open(&flipped).unwrap_err();
        let blamed_on_the_file =
            matches!(error, BackupError::Damaged(_) | BackupError::NotABackup(_) | BackupError::Truncated(_));
        assert!(blamed_on_the_file, "byte {at}: {error}");
    }
    for junk in [&b""[..], b"age-encryption.org/v2\n-> x\n\n", b"SQLite format 3\0", &[0; 40_000]] {
        assert!(open(junk).is_err());
    }
    let long = [b"age-encryption.org/v1\n-> ".to_vec(), vec![b'x'; 100_000]].concat();
    assert!(matches!(open(&long), Err(BackupError::NotABackup(_))));
}

#[test]
fn there_is_somebody_to_encrypt_to() {
    let manifest = BackupReader::peek(&write(&[identity(1).recipient().unwrap()]).0[..]).unwrap();
    let many = vec![identity(1).recipient().unwrap(); Manifest::MAX_RECIPIENTS];
    BackupWriter::new(Cursor::new(Vec::new()), manifest.clone(), &many).map(drop).unwrap();
    let too_many = vec![identity(1).recipient().unwrap(); Manifest::MAX_RECIPIENTS + 1];
    for recipients in [&[][..], &too_many] {
        let writer = BackupWriter::new(Cursor::new(Vec::new()), manifest.clone(), recipients);
        assert!(matches!(writer.map(drop), Err(BackupError::Recipients)));
    }
}

/// Whether the reference implementation is installed (`apt-get install age`). Where `HSM_TEST_REQUIRE_TOOLS` is set, its absence
/// is a failure.
fn age() -> bool {
    let found = ["age", "age-keygen"].iter().all(|name| Command::new(name).arg("--version").output().is_ok());
    if !found {
        assert!(std::env::var_os("HSM_TEST_REQUIRE_TOOLS").is_none(), "age is required and not installed");
        println!("SKIPPED: age is not installed");
    }
    found
}

#[test]
fn the_reference_implementation_opens_it() {
    if !age() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let made = Command::new("age-keygen").arg("-o").arg(&key).output().unwrap();
    assert!(made.status.success());
    let identity = Identity::parse(&std::fs::read(&key).unwrap()).ok().unwrap();
    let recipient = identity.recipient().unwrap();
    assert!(String::from_utf8(made.stderr).unwrap().contains(&recipient.to_string()), "the same public key");

    let (file, written) = write(&[recipient, self::identity(9).recipient().unwrap()]);
    let path = directory.path().join("backup.age");
    std::fs::write(&path, &file).unwrap();
    let opened = Command::new("age").arg("-d").arg("-i").arg(&key).arg(&path).output().unwrap();
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    // An age file with the same content is read here, but for the manifest, which it does not have.
    let mut encrypt = Command::new("age")
        .args(["-r", &recipient.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = encrypt.stdin.take().unwrap();
    let content = opened.stdout.clone();
    let feeder = std::thread::spawn(move || input.write_all(&content));
    let foreign = encrypt.wait_with_output().unwrap().stdout;
    feeder.join().unwrap().unwrap();
    let error = read(&foreign, 4096, Opener::Identity(identity)).unwrap_err();
    assert!(error.to_string().contains("without a manifest"), "{error}");
    assert_eq!(opened.stdout.len(), expected_length(), "{:?}", written.manifest);
}

fn expected_length() -> usize {
    let (file, _) = write(&[identity(1).recipient().unwrap()]);
    let header = file.windows(4).position(|bytes| bytes == b"--- ").unwrap() + 48;
    let payload = file.len() - header - 16;
    payload - payload.div_ceil(65_552) * 16
}
