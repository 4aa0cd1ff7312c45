//! Filling an empty store from a backup.

use keycore_backup::{Manifest, SealedRecord};
use keycore_store::{ArchivedRecord, GroupTag, IndexTag, Kind, Record, RecordId, Revision, Store};
use keycore_wire::{AuditAnchor, UnixMillis};
use serde::{Deserialize, Serialize};

use super::content::{ContentCheck, Opened};
use super::schedule::BackupState;
use super::{Failure, PAGE};
use crate::cluster::NewMethod;
use crate::engine::{Engine, locked};
use crate::error::FollowError;
use crate::follow::with_current_keys;
use crate::handover::Handover;
use crate::ledger::{load, open};
use crate::notary::AnchorElsewhere;
use crate::options::Now;
use crate::records::{CLUSTER, Content, ONLY, Revocation};
use crate::seal::{Place, SealingKeys};
use crate::unseal::PreparedShares;

/// That and from what the cluster was restored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Restored {
    /// The backup's revision.
    pub(crate) revision: u64,
    /// When it was made.
    pub(crate) made_at: UnixMillis,
    /// When it was restored.
    pub(crate) restored_at: UnixMillis,
    /// Goes into the key of session tokens: those from before the restore, and those of another restored copy, are good no more.
    pub(crate) sessions: [u8; 32],
}

impl Content for Restored {
    const KIND: Kind = Kind(44);
}

/// A restore that is under way; the store's import transaction belongs to it.
pub(super) struct Restore {
    /// Nothing is written; the backup is only looked at.
    rehearse: bool,
    /// The empty store's revision, once the import has begun.
    base: Option<Revision>,
    page: Vec<ArchivedRecord>,
}

impl Restore {
    pub(super) fn new(rehearse: bool) -> Self {
        Self { rehearse, base: None, page: Vec::new() }
    }

    /// Takes a record that `check` has seen.
    pub(super) fn take(
        &mut self,
        engine: &Engine,
        check: &ContentCheck,
        record: SealedRecord,
    ) -> Result<(), Failure> {
        // The cluster key is wrapped anew, sessions begin anew, and which anchors are of logs elsewhere this restore says.
        let left_out = [CLUSTER, Restored::KIND, BackupState::KIND, Revocation::KIND, Handover::KIND];
        let left_out = [&left_out[..], &[PreparedShares::KIND, AnchorElsewhere::KIND]].concat();
        if left_out.contains(&Kind(record.kind)) {
            return Ok(());
        }
        let record = archived(record);
        let marker = match &check.opened {
            Some(opened) if record.kind == AuditAnchor::KIND => Some(elsewhere(&opened.keys, &record)?),
            _ => None,
        };
        if self.rehearse {
            return Ok(());
        }
        self.page.push(record);
        self.page.extend(marker);
        if self.page.len() >= PAGE { self.write(engine) } else { Ok(()) }
    }

    /// Writes what is left, the cluster key under what unseals from now on (none: this engine's unseal secret), and where all of it came from; then all of it
    /// is there at once.
    pub(super) fn finish(
        &mut self,
        engine: &Engine,
        opened: &Opened,
        manifest: &Manifest,
        method: Option<&NewMethod>,
        now: Now,
    ) -> Result<(), Failure> {
        if self.rehearse {
            return Ok(());
        }
        let revision = Revision(opened.revision).max(self.begin(engine)?).next();
        let keys = &opened.keys;
        let failed =
            |what: &dyn core::fmt::Display| Failure::Content(format!("can't be sealed here: {what}"));
        let suitable = || {
            let no_secret =
                |_| failed(&"this engine's configuration has no unseal secret; say --custodians M/N");
            let secret = engine.unsealing.secret().map_err(no_secret)?;
            NewMethod::suitable(secret, engine.options.unseal_cost).map_err(|error| failed(&error))
        };
        let configured;
        let method = match method {
            Some(method) => method,
            None => {
                configured = suitable()?;
                &configured
            }
        };
        let wrapped = method.wrap(&keys.ring(), revision).map_err(|error| failed(&error))?;
        let mut restored = Restored {
            revision: manifest.revision,
            made_at: manifest.made_at,
            restored_at: now.wall,
            sessions: [0; 32],
        };
        aws_lc_rs::rand::fill(&mut restored.sessions).map_err(|error| failed(&error))?;
        let place = Place { kind: Restored::KIND, id: ONLY, version: revision };
        let content = postcard::to_allocvec(&restored).map_err(|error| failed(&error))?;
        let restored = keys.seal(place, &content).map_err(|error| failed(&error))?;
        for (kind, sealed) in [(CLUSTER, wrapped), (Restored::KIND, restored)] {
            let (index, group) = (Vec::new(), None);
            self.page.push(ArchivedRecord { kind, id: ONLY, version: revision, index, group, sealed });
        }
        self.write(engine)?;
        let archive = engine.backups.archive.as_ref().ok_or(Failure::NotEmpty)?;
        Ok(locked(archive).commit_import(revision)?)
    }

    /// Whether nothing is written.
    pub(super) fn is_rehearsed(&self) -> bool {
        self.rehearse
    }

    /// Leaves the store as it was.
    pub(super) fn abort(&self, engine: &Engine) {
        if let (Some(_), Some(archive)) = (self.base, &engine.backups.archive) {
            locked(archive).abort_import();
        }
    }

    fn begin(&mut self, engine: &Engine) -> Result<Revision, Failure> {
        if let Some(base) = self.base {
            return Ok(base);
        }
        let archive = engine.backups.archive.as_ref().ok_or(Failure::NotEmpty)?;
        let base = locked(archive).begin_import()?;
        self.base = Some(base);
        Ok(base)
    }

    fn write(&mut self, engine: &Engine) -> Result<(), Failure> {
        self.begin(engine)?;
        let archive = engine.backups.archive.as_ref().ok_or(Failure::NotEmpty)?;
        locked(archive).import(&self.page)?;
        self.page.clear();
        Ok(())
    }
}

/// The record that the log of this anchor is elsewhere, at the anchor's own version: the whole restore is one commit.
fn elsewhere(keys: &SealingKeys, anchor: &ArchivedRecord) -> Result<ArchivedRecord, Failure> {
    let &ArchivedRecord { id, version, ref sealed, .. } = anchor;
    let unusable = || Failure::Content("an anchor of an audit log in it can't be read".to_owned());
    let opened = open::<AuditAnchor>(keys, Record { id, version, sealed: sealed.clone() });
    let marker = AnchorElsewhere { head: opened.map_err(|_| unusable())?.content.head };
    let place = Place { kind: AnchorElsewhere::KIND, id, version };
    let content = postcard::to_allocvec(&marker).map_err(|_| unusable())?;
    let sealed = keys.seal(place, &content).map_err(|_| unusable())?;
    Ok(ArchivedRecord { kind: place.kind, id, version, index: Vec::new(), group: None, sealed })
}

fn archived(record: SealedRecord) -> ArchivedRecord {
    let SealedRecord { kind, id, version, index, group, sealed } = record;
    ArchivedRecord {
        kind: Kind(kind),
        id: RecordId(id),
        version: Revision(version),
        index: index.into_iter().map(IndexTag).collect(),
        group: group.map(GroupTag),
        sealed,
    }
}

/// The cluster's keys, for sessions since the last restore.
pub(crate) fn separate_sessions(
    store: &mut dyn Store,
    keys: SealingKeys,
) -> Result<SealingKeys, FollowError> {
    match with_current_keys(store, &keys, |store| Ok(load::<Restored>(store, &keys, ONLY)?))? {
        None => Ok(keys),
        Some(restored) => keys
            .separate_sessions(restored.content.sessions)
            .map_err(|error| FollowError::Damaged(format!("no key for session tokens: {error}"))),
    }
}
