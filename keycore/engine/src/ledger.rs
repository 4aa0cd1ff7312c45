//! The store, as the control plane sees it: transactions over typed, sealed records.

use keycore_store::{
    Change, CommitError, GroupTag, IndexTag, Kind, Record, RecordId, Revision, Store, StoreError,
};
use keycore_wire::RefusalCode;
use zeroize::Zeroizing;

use crate::cluster::{UnsealError, WrappedRing, catch_up};
use crate::denial::Denial;
use crate::error::FollowError;
use crate::keyring::DeriveError;
use crate::records::{CLUSTER, Content, ONLY};
use crate::seal::{Place, SealingKeys, generation_of};

/// How often a change is decided anew because a sibling was faster.
const ATTEMPTS: usize = 64;

/// A record that was opened, and the version that it is at.
pub(crate) struct Opened<T> {
    pub(crate) id: RecordId,
    pub(crate) version: Revision,
    pub(crate) content: T,
}

/// A record can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It, or the store's index, is not what this cluster wrote.
    #[error("{0}")]
    Damaged(String),
}

impl From<LoadError> for Denial {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => error.into(),
            LoadError::Damaged(what) => Self::internal(what),
        }
    }
}

/// What a transaction changed.
pub(crate) struct Committed {
    pub(crate) revision: Revision,
    pub(crate) records: Vec<(Kind, RecordId)>,
}

/// Typed reads, and the changes that will be made to what was read.
///
/// Everything is read at `base` or later and committed against `base`: a change that was decided on something that
/// changed meanwhile is decided anew.
pub(crate) struct Transaction<'a> {
    store: &'a mut dyn Store,
    keys: &'a SealingKeys,
    base: Revision,
    /// The record of the cluster key.
    cluster: Option<Record>,
    changes: Vec<Change>,
}

/// Decides and commits. `decide` runs again if a sibling was faster, so it must have no effects of its own.
/// Returns what it decided, and what was changed, if anything.
pub(crate) fn transact<T>(
    store: &mut dyn Store,
    keys: &SealingKeys,
    mut decide: impl FnMut(&mut Transaction<'_>) -> Result<T, Denial>,
) -> Result<(T, Option<Committed>), Denial> {
    for _ in 0..ATTEMPTS {
        let base = store.revision()?;
        // With the keys that the cluster has at this revision: what is read may be sealed with new ones, and what is written
        // must be.
        let cluster = store.load(CLUSTER, ONLY)?;
        if let Some(record) = &cluster {
            catch_up(store, keys, record).map_err(|error| match error {
                FollowError::Unseal(UnsealError::AnotherCluster) => Denial::zeroized(),
                other => Denial::store(&other),
            })?;
        }
        let known = cluster.is_some();
        let mut transaction = Transaction { store: &mut *store, keys, base, cluster, changes: Vec::new() };
        let decided = decide(&mut transaction);
        let changes = transaction.changes;
        let decided = match decided {
            // What does not open may be sealed with a key that came since.
            Err(denial) if denial.refusal.code == RefusalCode::Internal && store.revision()? != base => {
                continue;
            }
            decided => decided?,
        };
        if changes.is_empty() {
            return Ok((decided, None));
        }
        // What a cluster that was destroyed has still to say must not get into the store of the next one.
        if !known {
            return Err(Denial::zeroized());
        }
        match store.commit(base, &changes) {
            Ok(revision) => {
                let records = changes.iter().map(Change::record).collect();
                return Ok((decided, Some(Committed { revision, records })));
            }
            // A tag that was free when it was looked up is taken only if somebody was faster, too.
            Err(CommitError::Conflict | CommitError::Taken(_)) => {}
            Err(CommitError::Repeated { kind, id }) => {
                return Err(Denial::internal(format!("record {id:?} of kind {} changed twice", kind.0)));
            }
            Err(CommitError::Store(error)) => return Err(Denial::store(&error)),
        }
    }
    Err(Denial::new(RefusalCode::Overloaded, "too many changes at the same time; try again"))
}

impl Transaction<'_> {
    pub(crate) fn keys(&self) -> &SealingKeys {
        self.keys
    }

    /// The record of an id.
    pub(crate) fn load<T: Content>(&mut self, id: RecordId) -> Result<Option<Opened<T>>, Denial> {
        Ok(load(self.store, self.keys, id)?)
    }

    /// The record that has a tag. `is_it` tells whether it is what the tag stands for: the store's index is not sealed.
    pub(crate) fn find<T: Content>(
        &mut self,
        tag: &IndexTag,
        is_it: impl FnOnce(&T) -> bool,
    ) -> Result<Option<Opened<T>>, Denial> {
        let Some(record) = self.store.find(T::KIND, tag)? else { return Ok(None) };
        let opened: Opened<T> = open(self.keys, record)?;
        if is_it(&opened.content) { Ok(Some(opened)) } else { Err(another_record::<T>(opened.id).into()) }
    }

    /// Whether some record has a tag.
    pub(crate) fn is_taken(&mut self, kind: Kind, tag: &IndexTag) -> Result<bool, Denial> {
        Ok(self.store.find(kind, tag)?.is_some())
    }

    /// A page of records, by id.
    pub(crate) fn scan<T: Content>(
        &mut self,
        group: Option<&GroupTag>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Opened<T>>, Denial> {
        self.store
            .scan(T::KIND, group, after, limit)?
            .into_iter()
            .map(|record| Ok(open(self.keys, record)?))
            .collect()
    }

    /// How many records there are.
    pub(crate) fn count<T: Content>(&mut self, group: Option<&GroupTag>) -> Result<u64, Denial> {
        Ok(self.store.count(T::KIND, group)?)
    }

    /// Will write a record, new (`expect` none) or in place of the one that was read. `index` and `group` are all its
    /// tags from then on.
    pub(crate) fn put<T: Content>(
        &mut self,
        id: RecordId,
        expect: Option<Revision>,
        content: &T,
        index: Vec<IndexTag>,
        group: Option<GroupTag>,
    ) -> Result<(), Denial> {
        // Postcard writes into one buffer that grows by copying; room for a private key keeps it from leaving copies.
        let buffer = Vec::with_capacity(8 * 1024);
        let plain = Zeroizing::new(
            postcard::to_extend(content, buffer).map_err(|error| Denial::internal(error.to_string()))?,
        );
        let sealed = self.keys.seal(Place { kind: T::KIND, id, version: self.base.next() }, &plain)?;
        self.changes.push(Change::Put { kind: T::KIND, id, expect, sealed, index, group });
        Ok(())
    }

    /// The record of the cluster key, as it is before this transaction.
    pub(crate) fn cluster(&self) -> Result<WrappedRing, Denial> {
        let record = self.cluster.as_ref().ok_or_else(Denial::zeroized)?;
        WrappedRing::read(record).map_err(|error| Denial::internal(error.to_string()))
    }

    /// Will write the record of the cluster key, which is wrapped for the version that it will have.
    pub(crate) fn put_cluster(
        &mut self,
        wrap: impl FnOnce(Revision) -> Result<Vec<u8>, DeriveError>,
    ) -> Result<(), Denial> {
        let expect = self.cluster.as_ref().map(|record| record.version);
        let sealed = wrap(self.base.next()).map_err(|error| Denial::internal(error.to_string()))?;
        let (index, group) = (Vec::new(), None);
        self.changes.push(Change::Put { kind: CLUSTER, id: ONLY, expect, sealed, index, group });
        Ok(())
    }

    /// Records of all kinds, in the order of kinds and ids.
    pub(crate) fn walk(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<(Kind, Record)>, Denial> {
        Ok(self.store.walk(after, limit)?)
    }

    /// How many records of all kinds there are.
    pub(crate) fn total(&mut self) -> Result<u64, Denial> {
        Ok(self.store.total()?)
    }

    /// The record of an id, as it is sealed.
    pub(crate) fn load_sealed(&mut self, kind: Kind, id: RecordId) -> Result<Option<Record>, Denial> {
        Ok(self.store.load(kind, id)?)
    }

    /// Will seal a record that was read with the newest generation, unless it is or will be. Whether it will now.
    pub(crate) fn reseal(&mut self, kind: Kind, record: &Record) -> Result<bool, Denial> {
        let &Record { id, version, ref sealed } = record;
        let newest = generation_of(sealed) == Some(self.keys.ring().newest().number);
        if newest || self.changes.iter().any(|change| change.record() == (kind, id)) {
            return Ok(false);
        }
        let plain = self.keys.open(Place { kind, id, version }, sealed).map_err(|_| damaged(kind, id))?;
        let sealed = self.keys.seal(Place { kind, id, version: self.base.next() }, &plain)?;
        self.changes.push(Change::Reseal { kind, id, expect: version, sealed });
        Ok(true)
    }

    /// Will delete a record that was read.
    pub(crate) fn delete<T: Content>(&mut self, id: RecordId, expect: Revision) {
        self.changes.push(Change::Delete { kind: T::KIND, id, expect });
    }
}

/// The record of an id, and no other that the store might give.
pub(crate) fn load<T: Content>(
    store: &mut dyn Store,
    keys: &SealingKeys,
    id: RecordId,
) -> Result<Option<Opened<T>>, LoadError> {
    match store.load(T::KIND, id)? {
        Some(record) if record.id != id => Err(another_record::<T>(record.id)),
        Some(record) => open(keys, record).map(Some),
        None => Ok(None),
    }
}

fn another_record<T: Content>(id: RecordId) -> LoadError {
    let (kind, id) = (T::KIND.0, data_encoding::HEXLOWER.encode(&id.0));
    LoadError::Damaged(format!("the store gave record {id} of kind {kind} when it was asked for another"))
}

fn damaged(kind: Kind, id: RecordId) -> LoadError {
    let (kind, id) = (kind.0, data_encoding::HEXLOWER.encode(&id.0));
    LoadError::Damaged(format!(
        "the store's record {id} of kind {kind} is damaged, or not where it was written"
    ))
}

/// Opens a record where it was found.
pub(crate) fn open<T: Content>(keys: &SealingKeys, record: Record) -> Result<Opened<T>, LoadError> {
    let Record { id, version, sealed } = record;
    let damaged = || damaged(T::KIND, id);
    let plain = keys.open(Place { kind: T::KIND, id, version }, &sealed).map_err(|_| damaged())?;
    let content = postcard::from_bytes(&plain).map_err(|_| damaged())?;
    Ok(Opened { id, version, content })
}
