//! What has to hold of a backup's content.

use std::collections::BTreeMap;

use keycore_backup::{ClusterKey, Item, Manifest, SealedRecord};
use keycore_store::{Kind, RecordId, Revision};
use keycore_wire::ClusterId;

use super::Failure;
use crate::keyring::Keyring;
use crate::records::CLUSTER;
use crate::seal::{Place, SealingKeys};

/// Looks at one item after the other: first the cluster, then records in order, each of which opens, then the end.
#[derive(Default)]
pub(super) struct ContentCheck {
    pub(super) opened: Option<Opened>,
    counts: BTreeMap<u8, u64>,
    last: Option<(u8, [u8; 16])>,
    ended: bool,
}

/// What the first item tells.
pub(super) struct Opened {
    pub(super) keys: SealingKeys,
    pub(super) revision: u64,
}

impl ContentCheck {
    /// The record, if the item is one.
    pub(super) fn take(&mut self, item: Item) -> Result<Option<SealedRecord>, Failure> {
        if self.ended {
            return Err(bad("it goes on behind its end"));
        }
        match (item, &self.opened) {
            (Item::Cluster { cluster, revision, keys }, None) => {
                let ring = ring_of(cluster, &keys)?;
                self.opened = Some(Opened { keys: SealingKeys::new(ring), revision });
                Ok(None)
            }
            (Item::Record(record), Some(opened)) => {
                check_record(&record, opened)?;
                let here = (record.kind, record.id);
                if self.last.is_some_and(|last| last >= here) {
                    return Err(bad("its records are not in order"));
                }
                self.last = Some(here);
                *self.counts.entry(record.kind).or_default() += 1;
                Ok(Some(record))
            }
            (Item::End { records }, Some(_)) => {
                if records != self.counts.values().sum::<u64>() {
                    return Err(bad("it has another number of records than it says"));
                }
                self.ended = true;
                Ok(None)
            }
            (Item::Cluster { .. } | Item::Record(_) | Item::End { .. }, _) => {
                Err(bad("its content does not begin with the cluster"))
            }
        }
    }

    /// There is no more: whether it was all, and what the manifest says.
    pub(super) fn finish(self, manifest: &Manifest) -> Result<Opened, Failure> {
        let Some(opened) = self.opened.filter(|_| self.ended) else { return Err(bad("its end is missing")) };
        if self.counts != manifest.counts.iter().copied().collect() {
            return Err(bad("it holds other records than its manifest says"));
        }
        let same: (ClusterId, u64) = (opened.keys.cluster(), opened.revision);
        if same != (manifest.cluster, manifest.revision) {
            return Err(bad("it holds another cluster or revision than its manifest says"));
        }
        Ok(opened)
    }
}

/// A generation of 0 is the key of the index tags, which comes first.
fn ring_of(cluster: ClusterId, keys: &[ClusterKey]) -> Result<Keyring, Failure> {
    let (tags, generations) = match keys {
        [ClusterKey { generation: 0, key }, rest @ ..] => (Some(key.expose()), rest),
        all => (None, all),
    };
    let generations: Vec<_> = generations.iter().map(|of| (of.generation, of.key.expose())).collect();
    Keyring::of(cluster, tags, &generations)
        .map_err(|error| Failure::Content(format!("its cluster keys are of no use: {error}")))
}

/// Opens a record, and forgets what is in it.
fn check_record(record: &SealedRecord, opened: &Opened) -> Result<(), Failure> {
    let SealedRecord { kind, id, version, .. } = record;
    let place = Place { kind: Kind(*kind), id: RecordId(*id), version: Revision(*version) };
    let damaged = |what: &str| {
        let id = data_encoding::HEXLOWER.encode(id);
        Failure::Content(format!("its record {id} of kind {kind} {what}"))
    };
    if *version > opened.revision {
        return Err(damaged("is newer than the backup"));
    }
    // The wrapped cluster key is not sealed; the one that opens it is not in here.
    if place.kind != CLUSTER && opened.keys.open(place, &record.sealed).is_err() {
        return Err(damaged("does not open: it was damaged in the store"));
    }
    Ok(())
}

fn bad(what: &str) -> Failure {
    Failure::Content(what.to_owned())
}

#[cfg(test)]
mod tests {
    use keycore_wire::{Secret, UnixMillis};

    use super::*;

    const CLUSTER_ID: ClusterId = ClusterId([1; 16]);

    fn cluster() -> Item {
        let keys = vec![ClusterKey { generation: 1, key: Secret::new(vec![7; 32]) }];
        Item::Cluster { cluster: CLUSTER_ID, revision: 9, keys }
    }

    fn record(n: u8, version: u64) -> Item {
        let (kind, id) = (Kind(4), RecordId([n; 16]));
        let place = Place { kind, id, version: Revision(version) };
        let sealed =
            SealingKeys::new(Keyring::first(CLUSTER_ID, &[7; 32]).unwrap()).seal(place, b"content").unwrap();
        Item::Record(SealedRecord { kind: 4, id: id.0, version, index: Vec::new(), group: None, sealed })
    }

    fn end(records: u64) -> Item {
        Item::End { records }
    }

    /// What is wrong with these items under a manifest that counts `counted` records.
    fn verdict(items: Vec<Item>, counted: u64) -> Result<(), String> {
        let manifest = Manifest {
            cluster: CLUSTER_ID,
            revision: 9,
            made_at: UnixMillis(0),
            engine: "0".to_owned(),
            counts: vec![(4, counted)],
            recipients: Vec::new(),
            payload_sha256: [0; 32],
        };
        let mut check = ContentCheck::default();
        let taken = items.into_iter().try_for_each(|item| check.take(item).map(drop));
        taken.and_then(|()| check.finish(&manifest).map(drop)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn items_come_in_order_are_complete_and_are_what_the_manifest_says() {
        assert_eq!(verdict(vec![cluster(), record(1, 3), record(2, 9), end(2)], 2), Ok(()));
        for (items, counted, wrong) in [
            (vec![record(1, 3), end(1)], 1, "does not begin with the cluster"),
            (vec![cluster(), cluster(), end(0)], 0, "does not begin with the cluster"),
            (vec![cluster(), record(1, 3)], 1, "its end is missing"),
            (vec![cluster(), record(1, 3), end(2)], 2, "another number of records"),
            (vec![cluster(), record(1, 3), end(1), record(2, 3)], 2, "goes on behind its end"),
            (vec![cluster(), record(2, 3), record(1, 3), end(2)], 2, "not in order"),
            (vec![cluster(), record(1, 3), record(1, 3), end(2)], 2, "not in order"),
            (vec![cluster(), record(1, 10), end(1)], 1, "newer than the backup"),
            (vec![cluster(), record(1, 3), end(1)], 2, "other records than its manifest"),
        ] {
            let said = verdict(items, counted).unwrap_err();
            assert!(said.contains(wrong), "{wrong}: {said}");
        }
    }
}
