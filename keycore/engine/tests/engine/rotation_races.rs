//! A sibling rotates the cluster key while an engine reads: at the worst moment, after it learned the keys.

use std::sync::{Arc, Mutex};

use keycore_engine::Resealed;
use keycore_store::{
    Change, Changes, CommitError, GroupTag, IndexTag, Kind, Record, RecordId, Revision, Store, StoreError,
};
use keycore_wire::{
    ActivateCluster, ClusterState, InitializeBy, NewUnseal, Role, RotateClusterKey, UnsealCluster,
    UnsealMethod, UserChangePassword,
};

use crate::harness::{PASSWORD, Replica, World, name, secret};

const USER: Kind = Kind(2);

type Event = Box<dyn FnOnce() + Send>;

/// A store in which something happens once, before users are next read.
#[derive(Clone, Default)]
struct Fuse(Arc<Mutex<Option<Event>>>);

impl Fuse {
    fn set(&self, event: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(event));
    }

    fn burn(&self, kind: Kind) {
        if kind == USER
            && let Some(event) = self.0.lock().unwrap().take()
        {
            event();
        }
    }

    fn burned(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

struct Meanwhile {
    store: Box<dyn Store>,
    fuse: Fuse,
}

impl Store for Meanwhile {
    fn revision(&mut self) -> Result<Revision, StoreError> {
        self.store.revision()
    }

    fn load(&mut self, kind: Kind, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.fuse.burn(kind);
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
        self.fuse.burn(kind);
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

/// From the first to the last moment of a rotation.
fn rotate(replica: &Replica) {
    replica.client_of("root").call(&RotateClusterKey).unwrap();
    for _ in 0..100 {
        if replica.engine.reseal(replica.now()).unwrap() == Resealed::Complete {
            return;
        }
    }
    panic!("it does not end");
}

fn open(world: &World, fuse: &Fuse) -> Replica {
    let store = Box::new(Meanwhile { store: world.store(), fuse: fuse.clone() });
    world.open(store, 1, 7).unwrap()
}

#[test]
fn an_engine_starts_while_the_key_is_rotated() {
    let (world, first) = World::active();
    let fuse = Fuse::default();
    fuse.set(move || rotate(&first));
    let second = open(&world, &fuse);
    assert!(fuse.burned());
    second.client_of("web");
}

#[test]
fn changes_are_followed_while_the_key_is_rotated() {
    let (world, first) = World::active();
    let fuse = Fuse::default();
    let second = open(&world, &fuse);
    let new = "another horse battery";
    let change = UserChangePassword { name: Some(name("web")), current: None, new: secret(new) };
    first.client_of("root").call(&change).unwrap();
    fuse.set(move || rotate(&first));
    assert!(second.follow());
    assert!(fuse.burned());
    second.client().login("web", new).unwrap();
}

#[test]
fn an_engine_is_unsealed_while_the_key_is_rotated() {
    let world = World::new();
    let maker = world.unsealed_by(0, None).unwrap();
    let method = UnsealMethod::Custodians { needed: 2, of: 2 };
    let NewUnseal { shares, .. } = maker.client().call(&InitializeBy { method }).unwrap();
    maker.client().call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    maker.client_of("root").create_user("web", Role::CryptoUser).unwrap();
    let fuse = Fuse::default();
    let sealed = open(&world, &fuse);
    assert_eq!(sealed.engine.cluster_state(), ClusterState::Sealed);
    let mut custodian = sealed.client();
    custodian.call(&UnsealCluster { part: shares[0].duplicate() }).unwrap();
    fuse.set(move || rotate(&maker));
    custodian.call(&UnsealCluster { part: shares[1].duplicate() }).unwrap();
    assert!(fuse.burned());
    sealed.client_of("web");
}
