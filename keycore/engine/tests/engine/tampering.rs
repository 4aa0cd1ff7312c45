//! A store that lies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keycore_engine::{FollowError, LeftBehind, OpenError, PasswordCost, Resealed};
use keycore_store::{
    Change, Changes, CommitError, GroupTag, IndexTag, Kind, Record, RecordId, Revision, Store, StoreError,
};
use keycore_wire::{
    ActivateCluster, Attributes, FindKey, KeyAlgorithm, KeySelector, ListKeys, RefusalCode, RotateClusterKey,
    Sign, SignatureScheme,
};

use crate::harness::{PASSWORD, World, name, secret};

const CLUSTER: Kind = Kind(1);
const USER: Kind = Kind(2);
const PUBLIC: Kind = Kind(4);
const PRIVATE: Kind = Kind(5);

/// Gives out other contents than it took.
struct Liar {
    honest: Box<dyn Store>,
    lies: Arc<Mutex<HashMap<(Kind, RecordId), Record>>>,
    hides: Option<Hidden>,
    /// Commits that it takes back.
    forgets: Arc<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Hidden {
    Count(Kind),
    Records(Kind),
}

impl Liar {
    fn tell(&self, kind: Kind, record: Record) -> Record {
        self.lies.lock().unwrap().get(&(kind, record.id)).cloned().unwrap_or(record)
    }
}

impl Store for Liar {
    fn revision(&mut self) -> Result<Revision, StoreError> {
        let forgotten = self.forgets.load(Ordering::SeqCst);
        Ok(Revision(self.honest.revision()?.0 - forgotten))
    }

    fn load(&mut self, kind: Kind, id: RecordId) -> Result<Option<Record>, StoreError> {
        Ok(self.honest.load(kind, id)?.map(|record| self.tell(kind, record)))
    }

    fn find(&mut self, kind: Kind, tag: &IndexTag) -> Result<Option<Record>, StoreError> {
        Ok(self.honest.find(kind, tag)?.map(|record| self.tell(kind, record)))
    }

    fn scan(
        &mut self,
        kind: Kind,
        group: Option<&GroupTag>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        if self.hides == Some(Hidden::Records(kind)) {
            return Ok(Vec::new());
        }
        let page = self.honest.scan(kind, group, after, limit)?;
        Ok(page.into_iter().map(|record| self.tell(kind, record)).collect())
    }

    fn count(&mut self, kind: Kind, group: Option<&GroupTag>) -> Result<u64, StoreError> {
        match self.hides {
            Some(Hidden::Count(hidden) | Hidden::Records(hidden)) if hidden == kind => Ok(0),
            _ => self.honest.count(kind, group),
        }
    }

    fn walk(
        &mut self,
        after: Option<(Kind, RecordId)>,
        limit: usize,
    ) -> Result<Vec<(Kind, Record)>, StoreError> {
        self.honest.walk(after, limit)
    }

    fn total(&mut self) -> Result<u64, StoreError> {
        self.honest.total()
    }

    fn erase(&mut self) -> Result<Revision, StoreError> {
        self.honest.erase()
    }

    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, CommitError> {
        self.honest.commit(base, changes)
    }

    fn changes_since(&mut self, since: Revision) -> Result<(Revision, Changes), StoreError> {
        let (revision, changes) = self.honest.changes_since(since)?;
        match self.forgets.load(Ordering::SeqCst) {
            0 => Ok((revision, changes)),
            forgotten => Ok((Revision(revision.0 - forgotten), Changes::All)),
        }
    }
}

#[test]
fn records_that_were_swapped_changed_or_put_back_do_not_open() {
    let (world, honest) = World::active();
    let mut web = honest.client_of("web");
    let one = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "one");
    let two = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "two");
    let (mine, others) = (RecordId(one.id.0), RecordId(two.id.0));
    let mut store = world.store();
    let mut load = |kind, id| store.load(kind, id).unwrap().unwrap();
    let (public, private) = (load(PUBLIC, mine), load(PRIVATE, mine));
    let (other_public, other_private) = (load(PUBLIC, others), load(PRIVATE, others));
    let mut flipped = private.clone();
    flipped.sealed[60] ^= 1;

    let lies = Arc::new(Mutex::new(HashMap::new()));
    let liar = || {
        Box::new(Liar {
            honest: world.store(),
            lies: Arc::clone(&lies),
            hides: None,
            forgets: Arc::default(),
        })
    };
    for (what, kind, lie) in [
        (
            "another key's private half",
            PRIVATE,
            Record { sealed: other_private.sealed.clone(), ..private.clone() },
        ),
        ("the same with its version", PRIVATE, Record { id: mine, ..other_private }),
        ("another key's public half", PUBLIC, Record { id: mine, ..other_public.clone() }),
        ("the public half as the private one", PRIVATE, public.clone()),
        ("another record whole", PUBLIC, other_public),
        ("another version", PUBLIC, Record { version: Revision(public.version.0 + 1), ..public.clone() }),
        ("a bit", PRIVATE, flipped),
        ("nothing", PRIVATE, Record { sealed: Vec::new(), ..private }),
    ] {
        lies.lock().unwrap().insert((kind, mine), lie);
        let replica = world.open(liar(), 1, 7).unwrap();
        let mut web = replica.client_of("web");
        let sign = Sign { key: one.id, scheme: SignatureScheme::EcdsaP256Sha256, message: b"m" };
        let code = web.refused(&sign);
        assert!(matches!(code, RefusalCode::Internal | RefusalCode::NotFound), "{what}: {code:?}");
        if kind == PUBLIC {
            let find = FindKey { key: KeySelector::Label(one.label.clone()) };
            assert_eq!(web.refused(&find), RefusalCode::Internal, "{what}");
        }
        lies.lock().unwrap().clear();
    }
}

#[test]
fn a_user_record_that_was_put_back_stops_the_engine() {
    let (world, honest) = World::active();
    let mut store = world.store();
    let before = store.scan(USER, None, None, 10).unwrap();
    // Each login writes its user's record.
    honest.client_of("web");
    honest.client_of("root");
    let lies: HashMap<_, _> = before
        .into_iter()
        .map(|old| {
            let now = store.load(USER, old.id).unwrap().unwrap();
            ((USER, old.id), Record { version: now.version, ..old })
        })
        .collect();
    let liar = Liar {
        honest: world.store(),
        lies: Arc::new(Mutex::new(lies)),
        hides: None,
        forgets: Arc::default(),
    };
    assert!(matches!(world.open(Box::new(liar), 1, 7).err(), Some(OpenError::Damaged(_))));
}

#[test]
fn nobody_becomes_admin_again_because_the_store_hides_its_users() {
    let (world, honest) = World::active();
    honest.client_of("web").generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    let hiding = |hidden| {
        Box::new(Liar {
            honest: world.store(),
            lies: Arc::default(),
            hides: Some(hidden),
            forgets: Arc::default(),
        })
    };
    let activate = || ActivateCluster { admin: name("mallory"), password: secret(PASSWORD) };

    let counts_none = world.open(hiding(Hidden::Count(USER)), 1, 7).unwrap();
    assert_eq!(counts_none.client().refused(&activate()), RefusalCode::WrongClusterState);
    // An engine that never saw a user, and finds keys that must be somebody's.
    let shows_none = world.open(hiding(Hidden::Records(USER)), 1, 7).unwrap();
    assert_eq!(shows_none.client().refused(&activate()), RefusalCode::WrongClusterState);
}

#[test]
fn a_store_put_back_whole_is_noticed_by_a_running_engine() {
    let (world, _honest) = World::active();
    let forgets = Arc::new(AtomicU64::new(0));
    let store =
        || Liar { honest: world.store(), lies: Arc::default(), hides: None, forgets: Arc::clone(&forgets) };
    let cost = PasswordCost::insecure_for_tests();
    let replica = world.open_with(Box::new(store()), Box::new(store()), 1, 7, cost).unwrap();
    let mut web = replica.client_of("web");
    web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    replica.follow();

    forgets.store(1, Ordering::SeqCst);
    let followed = replica.engine.follow(replica.now());
    assert!(matches!(followed, Err(FollowError::PutBack { .. })), "{followed:?}");
    let list = ListKeys { after: None, limit: 1 };
    assert_eq!(web.refused(&list), RefusalCode::StoreUnavailable);
    forgets.store(0, Ordering::SeqCst);
    web.call(&list).unwrap();
}

#[test]
fn a_cluster_key_that_was_put_back_stops_the_engine_until_a_person_starts_it() {
    let (world, honest) = World::active();
    let only = RecordId([0; 16]);
    let old = world.store().load(CLUSTER, only).unwrap().unwrap();
    let lies = Arc::new(Mutex::new(HashMap::new()));
    let liar = Liar { honest: world.store(), lies: Arc::clone(&lies), hides: None, forgets: Arc::default() };
    let replica = world.open(Box::new(liar), 1, 7).unwrap();
    let mut web = replica.client_of("web");
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k").id;
    let sign = Sign { key, scheme: SignatureScheme::EcdsaP256Sha256, message: b"m" };
    honest.client_of("root").call(&RotateClusterKey).unwrap();
    while honest.engine.reseal(honest.now()).unwrap() != Resealed::Complete {}
    replica.follow();
    web.call(&sign).unwrap();

    lies.lock().unwrap().insert((CLUSTER, only), old);
    honest.client_of("web");
    let followed = replica.engine.follow(replica.now());
    assert!(matches!(followed, Err(FollowError::ClusterKeyPutBack { known: 2 })), "{followed:?}");
    assert!(matches!(replica.engine.left_behind(), Some(LeftBehind::PutBack(_))));
    assert_eq!(web.refused(&sign), RefusalCode::ShuttingDown);
    // Nor does it go on once the record is there again.
    lies.lock().unwrap().clear();
    honest.client_of("web");
    replica.follow();
    assert_eq!(web.refused(&sign), RefusalCode::ShuttingDown);
}
