//! What has to hold of a backup's content.

use std::collections::BTreeMap;

use keycore_backup::{Item, Manifest, SealedRecord};
use keycore_store::{Kind, RecordId, Revision};
use keycore_wire::ClusterId;

use super::Failure;
use crate::records::CLUSTER;
use crate::seal::{Place, SealingKeys};

/// Looks at one item after the other: first the cluster, then records in order, each of which opens, then the end.
#[derive(Default)]
pub(super) struct ContentCheck {
    opened: Option<Opened>,
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
                let [key] = &keys[..] else { return Err(bad("it has not exactly one cluster key")) };
                let keys = SealingKeys::derive(cluster, key.key.expose())
                    .map_err(|error| Failure::Content(format!("its cluster key is of no use: {error}")))?;
                self.opened = Some(Opened { keys, revision });
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
