//! Backups, identities and shares that were changed: refused, with a text, and without a panic.

#![allow(clippy::unwrap_used)]

mod checks;
#[path = "../../../wire/tests/malformed/mutation.rs"]
mod mutation;

use std::io::Cursor;

use keycore_backup::{
    BackupWriter, ClusterKey, CustodianShare, Item, Manifest, SealedRecord, Share, SharePurpose,
};
use keycore_wire::{ClusterId, Secret, UnixMillis};
use mutation::{Random, mutate};

fn small() -> Vec<u8> {
    let manifest = Manifest {
        cluster: ClusterId([0xcc; 16]),
        revision: 9,
        made_at: UnixMillis(1_700_000_000_000),
        engine: "0.1.0".to_owned(),
        counts: vec![(4, 1)],
        recipients: Vec::new(),
        payload_sha256: [0; 32],
    };
    let recipients = [checks::identity().recipient().unwrap()];
    let mut writer = BackupWriter::new(Cursor::new(Vec::new()), manifest, &recipients).unwrap();
    let keys = vec![ClusterKey { generation: 1, key: Secret::new(vec![0x77; 32]) }];
    writer.add(&Item::Cluster { cluster: ClusterId([0xcc; 16]), revision: 9, keys }).unwrap();
    let (index, sealed) = (vec![[7; 32]], vec![9; 200]);
    writer
        .add(&Item::Record(SealedRecord { kind: 4, id: [1; 16], version: 1, index, group: None, sealed }))
        .unwrap();
    writer.add(&Item::End { records: 1 }).unwrap();
    writer.finish().unwrap().0.into_inner()
}

#[test]
fn no_changed_backup_is_one() {
    let whole = small();
    assert!(checks::backup(&whole, 1000) && checks::backup(&whole, 1));
    let mut random = Random(5);
    for n in 0..600 {
        let mut file = whole.clone();
        mutate(&mut random, &mut file);
        let piece = 1 + random.below(file.len() + 1);
        assert!(!checks::backup(&file, piece) || file == whole, "change {n}: {file:02x?}");
    }
}

#[test]
fn changed_texts_are_refused_or_mean_the_same_again() {
    let identity = checks::identity();
    let share = CustodianShare::split(&identity, 2, 3).unwrap().remove(0);
    let unseal = Share::split(SharePurpose::Unseal, [3; 8], &[4; 32], 2, 3).unwrap().remove(0);
    let samples = [
        identity.to_text().as_bytes().to_vec(),
        identity.recipient().unwrap().to_string().into_bytes(),
        share.as_bytes().to_vec(),
        unseal.as_bytes().to_vec(),
    ];
    let mut random = Random(6);
    for sample in &samples {
        checks::texts(sample);
    }
    for _ in 0..60_000 {
        let mut text = samples[random.below(samples.len())].clone();
        mutate(&mut random, &mut text);
        checks::texts(&text);
    }
}
