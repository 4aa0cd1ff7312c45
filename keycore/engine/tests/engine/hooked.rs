//! A store at whose reads something happens: a sibling is faster, a disk fails.

use std::sync::{Arc, Mutex};

use keycore_store::{
    Change, Changes, CommitError, GroupTag, IndexTag, Kind, Record, RecordId, Revision, Store, StoreError,
};

type Event = Box<dyn FnMut(Kind) -> Result<Then, StoreError> + Send>;

/// What is to happen at the next read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The same.
    Again,
    /// Nothing more.
    Over,
}

/// What happens before records of a kind are read.
#[derive(Clone, Default)]
pub(crate) struct Hook(Arc<Mutex<Option<Event>>>);

impl Hook {
    /// From now on this happens at each read; what it fails with, the store fails with.
    pub(crate) fn set(&self, event: impl FnMut(Kind) -> Result<Then, StoreError> + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(event));
    }

    /// This happens once, when records of `kind` are next read.
    pub(crate) fn once(&self, kind: Kind, event: impl FnOnce() + Send + 'static) {
        let mut event = Some(event);
        self.set(move |read| {
            if read != kind {
                return Ok(Then::Again);
            }
            event.take().unwrap()();
            Ok(Then::Over)
        });
    }

    /// Whether nothing happens any more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }

    fn read(&self, kind: Kind) -> Result<(), StoreError> {
        // Taken out meanwhile: what happens may read this store, too.
        let Some(mut event) = self.0.lock().unwrap().take() else { return Ok(()) };
        let then = event(kind);
        if !matches!(then, Ok(Then::Over)) {
            *self.0.lock().unwrap() = Some(event);
        }
        then.map(|_| ())
    }
}

/// The store with the hook.
pub(crate) struct Hooked {
    pub(crate) store: Box<dyn Store>,
    pub(crate) hook: Hook,
}

impl Store for Hooked {
    fn revision(&mut self) -> Result<Revision, StoreError> {
        self.store.revision()
    }

    fn load(&mut self, kind: Kind, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.hook.read(kind)?;
        self.store.load(kind, id)
    }

    fn find(&mut self, kind: Kind, tag: &IndexTag) -> Result<Option<Record>, StoreError> {
        self.store.find(kind, tag)
    }

    fn scan(
        &mut self,
        kind: Kind,
        group: Option<&GroupTag>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.hook.read(kind)?;
        self.store.scan(kind, group, after, limit)
    }

    fn count(&mut self, kind: Kind, group: Option<&GroupTag>) -> Result<u64, StoreError> {
        self.store.count(kind, group)
    }

    fn walk(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<(Kind, Record)>, StoreError> {
        self.store.walk(after, limit)
    }

    fn total(&mut self) -> Result<u64, StoreError> {
        self.store.total()
    }

    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, CommitError> {
        self.store.commit(base, changes)
    }

    fn erase(&mut self) -> Result<Revision, StoreError> {
        self.store.erase()
    }

    fn changes_since(&mut self, since: Revision) -> Result<(Revision, Changes), StoreError> {
        self.store.changes_since(since)
    }
}
