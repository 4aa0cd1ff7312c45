//! What the engine knows without asking the store, and how it is kept true.

use std::sync::{PoisonError, RwLockWriteGuard};

use keycore_store::{Changes, Kind, Record, RecordId, Revision, Store};
use keycore_wire::KeyId;

use crate::backup;
use crate::cluster::{self, WrappedRing};
use crate::engine::{Engine, locked};
use crate::error::{FollowError, OpenError};
use crate::identity::{self, ClusterCertificate, ClusterIdentity, IdentityKey};
use crate::ledger::{LoadError, Opened, load, open};
use crate::options::Now;
use crate::records::{CLUSTER, Content, ONLY, PublicKeyPart, Revocation, SecretKeyPart, User};
use crate::seal::SealingKeys;
use crate::snapshot::{Gathered, Snapshot};

/// Records read at a time.
const PAGE: usize = 256;

/// How often what does not open is read again because the cluster key was changed. Each rotation changes it twice.
const ATTEMPTS: usize = 16;

/// The follower's own handle of the store, so that it never waits for a writer here.
pub(crate) struct Watch {
    store: Box<dyn Store>,
    seen: Revision,
}

impl Watch {
    pub(crate) fn new(store: Box<dyn Store>) -> Self {
        Self { store, seen: Revision(0) }
    }
}

impl Engine {
    /// Brings in what siblings changed: to be called every 25 ms by a thread of its own. Returns whether there was
    /// something. Costs microseconds if not.
    ///
    /// # Errors
    ///
    /// [`FollowError`]; the engine goes on with what it knows, and the next call tries again, unless it is left behind for good:
    /// [`Engine::left_behind`].
    pub fn follow(&self, now: Now) -> Result<bool, FollowError> {
        let followed = self.follow_changes(now);
        if let Err(error) = &followed {
            self.note_unfollowed(error);
        }
        followed
    }

    fn follow_changes(&self, now: Now) -> Result<bool, FollowError> {
        self.unsealing.drop_stale(now);
        if self.failed_self_test().is_some() {
            return Ok(false);
        }
        self.drop_orphans();
        let mut watch = locked(&self.watch);
        let seen = watch.seen;
        let (revision, changes) = watch.store.changes_since(seen)?;
        if revision == seen {
            return Ok(false);
        }
        check_not_put_back(seen, revision)?;
        let mut store = locked(&self.store);
        let initialized_elsewhere = self.sealing.get().is_none();
        let outcome = match &changes {
            Changes::These(records) if !initialized_elsewhere => {
                self.check_cluster(&mut **store, records)?;
                self.sealing.get().map_or(Ok(()), |keys| self.refresh(&mut **store, keys, records))
            }
            _ => self.reload(&mut **store, now),
        };
        // What could not be read may be readable the next time.
        if !matches!(outcome, Err(FollowError::Store(_) | FollowError::Audit(_))) {
            watch.seen = revision;
            let mut snapshot = self.snapshot_mut();
            snapshot.revision = snapshot.revision.max(revision);
        }
        outcome.map(|()| true)
    }

    /// Reads the cluster, all users and all logged-out sessions, when the engine starts.
    pub(crate) fn load_everything(&self, now: Now) -> Result<(), OpenError> {
        let mut watch = locked(&self.watch);
        let revision = watch.store.revision()?;
        match self.reload(&mut **locked(&self.store), now) {
            Ok(()) => {}
            Err(FollowError::Store(error)) => return Err(OpenError::Store(error)),
            Err(FollowError::Unseal(error)) => return Err(OpenError::Unseal(error)),
            Err(FollowError::Damaged(what)) => return Err(OpenError::Damaged(what)),
            Err(
                error @ (FollowError::PutBack { .. }
                | FollowError::ClusterKeyPutBack { .. }
                | FollowError::Audit(_)),
            ) => {
                return Err(OpenError::Damaged(error.to_string()));
            }
        }
        watch.seen = revision;
        self.snapshot_mut().revision = revision;
        Ok(())
    }

    /// Reads changed records again. What does not open is shut out, and told.
    ///
    /// `store` must be the engine's own, locked.
    pub(crate) fn refresh(
        &self,
        store: &mut dyn Store,
        keys: &SealingKeys,
        records: &[(Kind, RecordId)],
    ) -> Result<(), FollowError> {
        let (mut read, mut identity) = (Gathered::default(), None);
        let outcome = with_current_keys(store, keys, |store| {
            // What an earlier try could not open may be sealed with a key that came since.
            (read, identity) = (Gathered::default(), None);
            gather(store, keys, records, &mut read, &mut identity)
        });
        // Nobody is shut out because the store fails.
        let opened_all = !matches!(outcome, Err(FollowError::Store(_)));
        read.publish(&mut self.snapshot_mut(), opened_all);
        for &(kind, id) in records {
            if matches!(kind, PublicKeyPart::KIND | SecretKeyPart::KIND) {
                locked(&self.keys).evict(KeyId(id.0));
            }
        }
        if let Some(identity) = identity {
            self.take_identity(identity);
        }
        outcome
    }

    /// Opens the cluster if there is one by now, and reads everything anew.
    fn reload(&self, store: &mut dyn Store, now: Now) -> Result<(), FollowError> {
        self.adopt_cluster(store, now)?;
        if self.is_zeroized() {
            return Ok(());
        }
        let Some(keys) = self.sealing.get() else { return Ok(()) };
        let (everything, outcome) = read_everything(store, keys)?;
        self.publish(everything);
        outcome
    }

    /// Takes the keys of the cluster that was sealed, once everything is read with them and nothing can fail any more.
    pub(crate) fn take_keys(
        &self,
        watch: &mut Watch,
        store: &mut dyn Store,
        keys: SealingKeys,
        now: Now,
    ) -> Result<(), FollowError> {
        let revision = watch.store.revision()?;
        let (everything, outcome) = read_everything(store, &keys)?;
        outcome?;
        self.compare_with_anchor(store, &keys, now)?;
        self.publish(everything);
        watch.seen = revision;
        self.snapshot_mut().revision = revision;
        let _set_once_as_the_store_is_locked = self.sealing.set(keys);
        self.unsealing.note(None);
        Ok(())
    }

    /// From now on this is what is known.
    fn publish(&self, everything: Everything) {
        let Everything { snapshot: mut fresh, identity } = everything;
        let mut snapshot = self.snapshot_mut();
        fresh.revision = snapshot.revision;
        *snapshot = fresh;
        drop(snapshot);
        locked(&self.keys).clear();
        self.take_identity(identity);
    }

    /// Brings the keys of an open cluster to what the store has. The record of one that is not open here.
    pub(crate) fn catch_up(&self, store: &mut dyn Store) -> Result<Option<Record>, FollowError> {
        let Some(record) = store.load(CLUSTER, ONLY)? else {
            if self.sealing.get().is_some() {
                self.forget_everything();
            }
            self.unsealing.note(None);
            return Ok(None);
        };
        match self.sealing.get() {
            Some(keys) => cluster::catch_up(store, keys, &record).map(|()| None),
            None => Ok(Some(record)),
        }
    }

    /// Opens the cluster that a sibling, or this engine in an earlier life, initialized, if its secret is in the configuration;
    /// if it is open, brings its keys to what the store has.
    pub(crate) fn adopt_cluster(&self, store: &mut dyn Store, now: Now) -> Result<(), FollowError> {
        let Some(record) = self.catch_up(store)? else { return Ok(()) };
        let wrapped = WrappedRing::read(&record)?;
        let Some(secret) = self.unsealing.secret_for(&wrapped) else {
            self.unsealing.note(Some(&wrapped));
            return Ok(());
        };
        let keys = backup::separate_sessions(store, wrapped.open(secret.expose())?)?;
        self.compare_with_anchor(store, &keys, now)?;
        let _set_once_as_the_store_is_locked = self.sealing.set(keys);
        Ok(())
    }

    fn snapshot_mut(&self) -> RwLockWriteGuard<'_, Snapshot> {
        self.snapshot.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_cluster(&self, store: &mut dyn Store, records: &[(Kind, RecordId)]) -> Result<(), FollowError> {
        if records.contains(&(CLUSTER, ONLY)) { self.catch_up(store).map(drop) } else { Ok(()) }
    }
}

/// Reads with the keys that the cluster has, and once more if they changed meanwhile: what a newer generation sealed does not
/// open with older keys, and is not damaged.
pub(crate) fn with_current_keys<T>(
    store: &mut dyn Store,
    keys: &SealingKeys,
    mut read: impl FnMut(&mut dyn Store) -> Result<T, FollowError>,
) -> Result<T, FollowError> {
    let mut attempts = 0;
    loop {
        let record = store.load(CLUSTER, ONLY)?;
        let caught_up = record.as_ref().map_or(Ok(()), |record| cluster::catch_up(store, keys, record));
        let outcome = caught_up.and_then(|()| read(store));
        attempts += 1;
        if attempts == ATTEMPTS || !matches!(outcome, Err(FollowError::Damaged(_))) {
            return outcome;
        }
        let version = |record: Option<&Record>| record.map(|record| record.version);
        if version(store.load(CLUSTER, ONLY)?.as_ref()) == version(record.as_ref()) {
            return outcome;
        }
    }
}

/// The store's revision never goes back by itself.
pub(crate) fn check_not_put_back(known: Revision, found: Revision) -> Result<(), FollowError> {
    if found < known { Err(FollowError::PutBack { known: known.0, found: found.0 }) } else { Ok(()) }
}

/// What an engine knows of its cluster without asking the store.
#[derive(Default)]
struct Everything {
    snapshot: Snapshot,
    identity: Option<ClusterIdentity>,
}

/// Reads all users, logged-out sessions and the identity: as far as they open, and what does not.
fn read_everything(
    store: &mut dyn Store,
    keys: &SealingKeys,
) -> Result<(Everything, Result<(), FollowError>), FollowError> {
    let mut everything = Everything::default();
    let outcome = with_current_keys(store, keys, |store| {
        everything = Everything::default();
        let (mut read, mut outcome) = (Gathered::default(), Ok(()));
        each::<User>(store, keys, &mut outcome, |user| read.user(user.id, Some(&user.content)))?;
        each::<Revocation>(store, keys, &mut outcome, |opened| read.revocation(opened.id, Some(&opened)))?;
        everything.identity = read_identity(store, keys, &mut outcome)?;
        read.publish(&mut everything.snapshot, true);
        outcome
    });
    match outcome {
        Ok(()) | Err(FollowError::Damaged(_)) => Ok((everything, outcome)),
        Err(error) => Err(error),
    }
}

/// Reads changed records: what they are now, and `identity` if it is another one.
fn gather(
    store: &mut dyn Store,
    keys: &SealingKeys,
    records: &[(Kind, RecordId)],
    read: &mut Gathered,
    identity: &mut Option<Option<ClusterIdentity>>,
) -> Result<(), FollowError> {
    let mut outcome = Ok(());
    let mut identity_changed = false;
    for &(kind, id) in records {
        match kind {
            User::KIND => match load::<User>(store, keys, id) {
                Ok(user) => read.user(id, user.as_ref().map(|user| &user.content)),
                Err(LoadError::Damaged(what)) => {
                    read.unopened(id);
                    outcome = Err(FollowError::Damaged(what));
                }
                Err(LoadError::Store(error)) => return Err(error.into()),
            },
            // A revocation that does not open any more goes on to be one.
            Revocation::KIND => match load::<Revocation>(store, keys, id) {
                Ok(revocation) => read.revocation(id, revocation.as_ref()),
                Err(LoadError::Damaged(what)) => outcome = Err(FollowError::Damaged(what)),
                Err(LoadError::Store(error)) => return Err(error.into()),
            },
            IdentityKey::KIND | ClusterCertificate::KIND => identity_changed = true,
            _ => {}
        }
    }
    if identity_changed {
        *identity = Some(read_identity(store, keys, &mut outcome)?);
    }
    outcome
}

/// Reads the cluster's key for the network and its certificate. What does not open is shown to nobody.
fn read_identity(
    store: &mut dyn Store,
    keys: &SealingKeys,
    outcome: &mut Result<(), FollowError>,
) -> Result<Option<ClusterIdentity>, FollowError> {
    match identity::load(store, keys) {
        Ok(found) => Ok(found),
        Err(LoadError::Damaged(what)) => {
            *outcome = Err(FollowError::Damaged(what));
            Ok(None)
        }
        Err(LoadError::Store(error)) => Err(error.into()),
    }
}

/// Reads all records of a kind. Those that don't open are left out, and told in `outcome`.
fn each<T: Content>(
    store: &mut dyn Store,
    keys: &SealingKeys,
    outcome: &mut Result<(), FollowError>,
    mut take: impl FnMut(Opened<T>),
) -> Result<(), FollowError> {
    let mut after = None;
    loop {
        let page = store.scan(T::KIND, None, after, PAGE)?;
        let full = page.len() == PAGE;
        after = page.last().map(|record| record.id);
        for record in page {
            match open::<T>(keys, record) {
                Ok(opened) => take(opened),
                Err(error) => *outcome = Err(error.into()),
            }
        }
        if !full {
            return Ok(());
        }
    }
}
