//! Backups: a consistent copy of the store with the cluster key, encrypted to recipients whose identities the engine
//! does not have (`keycore-backup` has the format). Made by an engine, verified before it gets its name, restored into an empty
//! store only.
//!
//! Records go into a backup as they lie in the store, sealed: nothing is unsealed to make one, and a reader page by page of one
//! snapshot holds neither signatures nor changes up. The cluster key goes with them, inside the encryption.

mod content;
mod feed;
mod place;
mod restore;
mod schedule;

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};

use keycore_backup::{
    BackupError, BackupReader, BackupWriter, ClusterKey, Item, Manifest, Opener, Recipient, SealedRecord,
};
use keycore_store::{Archive, ArchivedRecord, CommitError, Record, Revision, StoreError};
use keycore_wire::{BackupContent, BackupInfo, BackupPage, MAX_BACKUP_PAGE, RefusalCode, Secret};

use crate::backup::content::ContentCheck;
pub(crate) use crate::backup::feed::{Feeds, chunk, end, end_by, restore, restores, verify};
pub use crate::backup::place::{BackupFile, BackupPlace};
pub(crate) use crate::backup::restore::{Restored, separate_sessions};
pub(crate) use crate::backup::schedule::{health, told};
use crate::cluster::{self, UnsealError};
use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::error::FollowError;
use crate::keyring::Keyring;
use crate::options::Now;
use crate::policy::Permission;
use crate::records::{CLUSTER, Content, ONLY, PublicKeyPart, User};
use crate::seal::SealingKeys;

/// Records that are read at a time.
const PAGE: usize = 256;

/// Bytes that a written backup is read back by.
const PIECE: usize = 64 * 1024;

/// How backups are made; what the daemon's configuration decides.
pub struct BackupPlan {
    /// Where they go.
    pub place: Box<dyn BackupPlace>,
    /// Whom they are encrypted to; never none.
    pub recipients: Vec<Recipient>,
    /// How often one is made by itself; none for never.
    pub every: Option<Duration>,
    /// How many of this cluster are kept; one at least always is.
    pub keep: usize,
}

/// What an engine needs for backups and restores.
#[derive(Default)]
pub(crate) struct Backups {
    /// A handle of the store for this alone. Whoever holds it makes, or restores, the one backup at a time.
    archive: Option<Mutex<Box<dyn Archive>>>,
    plan: Option<BackupPlan>,
    pub(crate) feeds: Feeds,
}

/// A backup was not made, read or restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the backup directory: {0}")]
    Place(#[from] io::Error),
    /// The content contradicts itself.
    #[error("{0}")]
    Content(String),
    /// The store that is to be filled is not empty.
    #[error("the store is not empty: a backup is restored into an uninitialized cluster")]
    NotEmpty,
}

impl Engine {
    /// Makes backups and restores possible. `archive` is a handle of the engine's store that nothing else uses; without a
    /// plan the engine makes no backups, but restores them.
    pub fn enable_backups(&mut self, archive: Box<dyn Archive>, plan: Option<BackupPlan>) {
        self.backups.archive = Some(Mutex::new(archive));
        self.backups.plan = plan;
    }
}

impl Backups {
    fn archive(&self) -> Result<&Mutex<Box<dyn Archive>>, Denial> {
        self.archive.as_ref().ok_or_else(|| unavailable("this engine's store can't be backed up"))
    }

    fn plan(&self) -> Result<&BackupPlan, Denial> {
        let configure = "this engine's configuration names no backup directory and recipients: see [backup]";
        self.plan.as_ref().ok_or_else(|| unavailable(configure))
    }
}

/// Makes a backup now.
pub(crate) fn create(engine: &Engine, permission: &Permission, now: Now) -> Result<BackupInfo, Denial> {
    engine.transact(|records| permission.spend(records))?;
    let made = make(engine, now);
    schedule::note(engine, now, &made)?;
    made
}

/// Makes a backup and drops the oldest beyond those to be kept.
fn make(engine: &Engine, now: Now) -> Result<BackupInfo, Denial> {
    let (plan, keys) = (engine.backups.plan()?, engine.sealing()?);
    let mut archive = locked(engine.backups.archive()?);
    let written = write(engine, &mut **archive, plan, keys, now);
    archive.end_export();
    drop(archive);
    let info = written?;
    retain(plan, keys, &info.name).map_err(Failure::Place)?;
    Ok(info)
}

fn write(
    engine: &Engine,
    archive: &mut dyn Archive,
    plan: &BackupPlan,
    keys: &SealingKeys,
    now: Now,
) -> Result<BackupInfo, Failure> {
    let inventory = archive.begin_export()?;
    let cluster = keys.cluster();
    let name = place::name(cluster, now.wall, inventory.revision);
    let manifest = Manifest {
        cluster,
        revision: inventory.revision.0,
        made_at: now.wall,
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        counts: inventory.counts.iter().map(|(kind, count)| (kind.0, *count)).collect(),
        recipients: Vec::new(),
        payload_sha256: [0; 32],
    };
    let mut writer = BackupWriter::new(plan.place.create()?, manifest, &plan.recipients)?;
    // The ring of this very snapshot, whatever the engine has heard of meanwhile: its record is the first one.
    let first = archive.export(None, 1)?;
    let of_cluster = first.first().filter(|record| (record.kind, record.id) == (CLUSTER, ONLY));
    let of_cluster = of_cluster.ok_or_else(|| Failure::Content("the cluster was zeroized".to_owned()))?;
    let ring = engine.ring_of(of_cluster).map_err(|error| Failure::Content(error.to_string()))?;
    let tags = ClusterKey { generation: 0, key: Secret::new(ring.tags().expose().to_vec()) };
    let generations = ring.keys().into_iter().map(|(generation, key)| ClusterKey { generation, key });
    let cluster_keys = core::iter::once(tags).chain(generations).collect();
    writer.add(&Item::Cluster { cluster, revision: inventory.revision.0, keys: cluster_keys })?;
    let (mut records, mut after) = (0, None);
    loop {
        let page = archive.export(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some((last.kind, last.id));
        for record in page {
            writer.add(&Item::Record(sealed(record)))?;
            records += 1;
        }
    }
    writer.add(&Item::End { records })?;
    archive.end_export();
    let (mut file, written) = writer.finish()?;
    file.sync()?;
    file.seek(SeekFrom::Start(0))?;
    let manifest = read_back(&mut *file, Opener::FileKey(written.file_key))?;
    file.publish(&name)?;
    Ok(info(name, written.size, &manifest))
}

/// Reads a whole backup and opens every record of it.
fn read_back(file: &mut dyn Read, opener: Opener) -> Result<Manifest, Failure> {
    let (mut reader, mut check) = (BackupReader::new(opener), ContentCheck::default());
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => reader.push(&piece[..length], |item| check.take(item).map(drop))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let manifest = reader.finish(|item| check.take(item).map(drop))?;
    check.finish(&manifest)?;
    Ok(manifest)
}

/// Deletes the oldest backups of this cluster; never `newest`.
fn retain(plan: &BackupPlan, keys: &SealingKeys, newest: &str) -> io::Result<()> {
    let mut names = plan.place.names()?;
    names.retain(|name| place::is_of(name, keys.cluster()) && name != newest);
    names.sort_unstable();
    let spare = names.len().saturating_sub(plan.keep.saturating_sub(1));
    names.iter().take(spare).try_for_each(|name| plan.place.remove(name))
}

/// A page of the backups in the directory.
pub(crate) fn list(
    engine: &Engine,
    _permission: &Permission,
    after: Option<&str>,
    limit: u16,
) -> Result<BackupPage, Denial> {
    let plan = engine.backups.plan()?;
    let mut names = plan.place.names().map_err(Failure::Place)?;
    names.retain(|name| place::is_backup(name) && after.is_none_or(|after| name.as_str() > after));
    names.sort_unstable();
    let limit = usize::from(limit.clamp(1, MAX_BACKUP_PAGE));
    let mut page = BackupPage { backups: Vec::new(), damaged: Vec::new(), more: names.len() > limit };
    for name in names.into_iter().take(limit) {
        let peeked = plan.place.open(&name).map_err(BackupError::Read).and_then(|(file, size)| {
            let manifest = BackupReader::peek(file)?;
            Ok((manifest, size))
        });
        match peeked {
            Ok((manifest, size)) => page.backups.push(info(name, size, &manifest)),
            Err(error) => page.damaged.push((name, error.to_string())),
        }
    }
    Ok(page)
}

fn info(name: String, size: u64, manifest: &Manifest) -> BackupInfo {
    BackupInfo {
        name,
        size,
        content: Box::new(content_of(manifest)),
        recipients: manifest.recipients.iter().map(ToString::to_string).collect(),
        payload_sha256: data_encoding::HEXLOWER.encode(&manifest.payload_sha256),
    }
}

fn content_of(manifest: &Manifest) -> BackupContent {
    let counts: BTreeMap<_, _> = manifest.counts.iter().copied().collect();
    let of = |kind: keycore_store::Kind| counts.get(&kind.0).copied().unwrap_or(0);
    BackupContent {
        cluster: manifest.cluster,
        revision: manifest.revision,
        made_at: manifest.made_at,
        engine: manifest.engine.clone(),
        records: manifest.records(),
        users: of(User::KIND),
        keys: of(PublicKeyPart::KIND),
    }
}

impl Engine {
    /// The ring that the cluster had when `record` was its.
    fn ring_of(&self, record: &ArchivedRecord) -> Result<Arc<Keyring>, FollowError> {
        let keys = self.sealing.get().ok_or(UnsealError::AnotherCluster)?;
        let ring = keys.ring();
        if ring.wrapping.as_ref().is_some_and(|wrapping| wrapping.version == record.version) {
            return Ok(ring);
        }
        let ArchivedRecord { id, version, sealed, .. } = record;
        let record = Record { id: *id, version: *version, sealed: sealed.clone() };
        cluster::ring_of(&mut **locked(&self.store), keys, &record).map(Arc::new)
    }
}

fn sealed(record: ArchivedRecord) -> SealedRecord {
    let ArchivedRecord { kind, id, version: Revision(version), index, group, sealed } = record;
    let index = index.into_iter().map(|tag| tag.0).collect();
    SealedRecord { kind: kind.0, id: id.0, version, index, group: group.map(|group| group.0), sealed }
}

fn unavailable(detail: impl Into<String>) -> Denial {
    Denial::new(RefusalCode::BackupsUnavailable, detail)
}

impl From<Failure> for Denial {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error.into(),
            Failure::Backup(error @ BackupError::WrongIdentity { .. }) => {
                Self::new(RefusalCode::WrongIdentity, error.to_string())
            }
            Failure::Backup(BackupError::Crypto) => Self::internal("the cryptographic library failed"),
            Failure::Backup(
                error @ (BackupError::Write(_)
                | BackupError::Read(_)
                | BackupError::Recipients
                | BackupError::TooLarge(_)),
            ) => unavailable(error.to_string()),
            Failure::Place(error) => unavailable(format!("the backup directory: {error}")),
            Failure::Backup(error) => Self::new(RefusalCode::BadBackup, error.to_string()),
            Failure::Content(what) => Self::new(RefusalCode::BadBackup, what),
            Failure::NotEmpty => {
                Self::cluster_state("a backup is restored into an uninitialized cluster only")
            }
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => Self::Store(error),
            CommitError::Conflict => Self::NotEmpty,
            error @ (CommitError::Taken(_) | CommitError::Repeated { .. }) => {
                Self::Content(error.to_string())
            }
        }
    }
}
