use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rusqlite::StatementStatus;
use tempfile::TempDir;

use super::*;
use crate::Change;

mod archive;
mod model;
mod sharing;

const KEYS: Kind = Kind(1);
const USERS: Kind = Kind(2);

/// A store file in a directory of its own.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path()).unwrap()
    }
}

fn id(n: u8) -> RecordId {
    RecordId([n; 16])
}

fn tag(n: u8) -> IndexTag {
    IndexTag([n; 32])
}

fn group(n: u8) -> GroupTag {
    GroupTag([n; 32])
}

fn put(n: u8, expect: Option<Revision>, content: &[u8], tags: &[u8]) -> Change {
    let index = tags.iter().copied().map(tag).collect();
    Change::Put { kind: KEYS, id: id(n), expect, sealed: content.to_vec(), index, group: None }
}

fn delete(n: u8, expect: u64) -> Change {
    Change::Delete { kind: KEYS, id: id(n), expect: Revision(expect) }
}

fn record(n: u8, version: u64, content: &[u8]) -> Record {
    Record { id: id(n), version: Revision(version), sealed: content.to_vec() }
}

#[test]
fn a_lookup_is_planned_once() {
    let place = Place::new();
    let mut store = place.open();
    let first = store.commit(Revision(0), &[put(1, None, b"one", &[1]), put(2, None, b"two", &[2])]).unwrap();
    for n in [1, 2, 1, 3] {
        let there = (n < 3).then_some(first);
        assert_eq!(store.load(KEYS, id(n)).unwrap().map(|record| record.version), there);
        assert_eq!(store.find(KEYS, &tag(n)).unwrap().map(|record| record.version), there);
    }
    for lookup in [read::LOAD, read::FIND] {
        let statement = store.db.prepare_cached(lookup).unwrap();
        let ran = statement.get_status(StatementStatus::Run);
        assert_eq!((ran, statement.get_status(StatementStatus::RePrepare)), (4, 0), "{lookup}");
    }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!(store.revision().unwrap(), Revision(0));
    assert_eq!(store.commit(Revision(0), &[put(1, None, b"one", &[1, 2])]).unwrap(), Revision(1));
    drop(store);

    let mut store = place.open();
    assert_eq!(store.revision().unwrap(), Revision(1));
    assert_eq!(store.load(KEYS, id(1)).unwrap(), Some(record(1, 1, b"one")));
    assert_eq!(store.find(KEYS, &tag(2)).unwrap(), Some(record(1, 1, b"one")));
    assert_eq!(store.load(USERS, id(1)).unwrap(), None, "kinds don't mix");
    assert_eq!(store.find(USERS, &tag(2)).unwrap(), None);
}

#[test]
fn a_stale_base_or_version_is_a_conflict_and_changes_nothing() {
    let place = Place::new();
    let (mut one, mut two) = (place.open(), place.open());
    assert_eq!((one.revision().unwrap(), two.revision().unwrap()), (Revision(0), Revision(0)));
    one.commit(Revision(0), &[put(1, None, b"one", &[])]).unwrap();

    assert!(matches!(two.commit(Revision(0), &[put(2, None, b"two", &[])]), Err(CommitError::Conflict)));
    assert_eq!(two.revision().unwrap(), Revision(1), "the other handle sees the commit");
    let stale = [
        put(1, None, b"exists", &[]),
        put(1, Some(Revision(0)), b"old version", &[]),
        put(3, Some(Revision(1)), b"does not exist", &[]),
        delete(1, 0),
        delete(3, 1),
    ];
    for change in stale {
        let commit = two.commit(Revision(1), &[put(9, None, b"must not stay", &[9]), change.clone()]);
        assert!(matches!(commit, Err(CommitError::Conflict)), "{change:?}: {commit:?}");
    }
    assert_eq!(two.revision().unwrap(), Revision(1));
    assert_eq!(two.find(KEYS, &tag(9)).unwrap(), None);
    assert_eq!(two.commit(Revision(1), &[put(1, Some(Revision(1)), b"new", &[])]).unwrap(), Revision(2));
    assert_eq!(one.load(KEYS, id(1)).unwrap(), Some(record(1, 2, b"new")));
}

#[test]
fn a_tag_has_one_owner_until_it_is_given_up() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(Revision(0), &[put(1, None, b"one", &[1])]).unwrap();
    let taken = store.commit(Revision(1), &[put(2, None, b"two", &[2, 1])]);
    assert!(matches!(taken, Err(CommitError::Taken(KEYS))), "{taken:?}");
    assert_eq!(store.find(KEYS, &tag(2)).unwrap(), None, "nothing of the failed commit stays");

    // The same tag may belong to a record of another kind.
    let user = Change::Put {
        kind: USERS,
        id: id(7),
        expect: None,
        sealed: vec![7],
        index: vec![tag(1)],
        group: None,
    };
    store.commit(Revision(1), &[user]).unwrap();

    // Moved within a commit, in an order where the taker comes first.
    let moved = [put(2, None, b"two", &[1]), put(1, Some(Revision(1)), b"one", &[3])];
    store.commit(Revision(2), &moved).unwrap();
    assert_eq!(store.find(KEYS, &tag(1)).unwrap().unwrap().id, id(2));
    assert_eq!(store.find(KEYS, &tag(3)).unwrap().unwrap().id, id(1));

    // Freed by a delete.
    store.commit(Revision(3), &[delete(2, 3)]).unwrap();
    assert_eq!(store.find(KEYS, &tag(1)).unwrap(), None);
    store.commit(Revision(4), &[put(4, None, b"four", &[1])]).unwrap();
    assert_eq!(store.find(KEYS, &tag(1)).unwrap().unwrap().id, id(4));
}

#[test]
fn one_commit_may_not_name_a_record_twice() {
    let place = Place::new();
    let mut store = place.open();
    let commit = store.commit(Revision(0), &[put(1, None, b"a", &[]), put(1, Some(Revision(1)), b"b", &[])]);
    assert!(matches!(commit, Err(CommitError::Repeated { kind: KEYS, id: repeated }) if repeated == id(1)));
    assert_eq!(store.revision().unwrap(), Revision(0));
}

#[test]
fn scans_and_counts_by_kind_and_group() {
    let place = Place::new();
    let mut store = place.open();
    let changes: Vec<_> = (0..10)
        .rev()
        .map(|n| Change::Put {
            kind: KEYS,
            id: id(n),
            expect: None,
            sealed: vec![n],
            index: vec![],
            group: Some(group(n % 2)),
        })
        .collect();
    store.commit(Revision(0), &changes).unwrap();
    let ids = |records: Vec<Record>| records.into_iter().map(|record| record.id.0[0]).collect::<Vec<_>>();

    assert_eq!(ids(store.scan(KEYS, None, None, 4).unwrap()), [0, 1, 2, 3]);
    assert_eq!(ids(store.scan(KEYS, None, Some(id(3)), 100).unwrap()), [4, 5, 6, 7, 8, 9]);
    assert_eq!(ids(store.scan(KEYS, Some(&group(1)), Some(id(1)), 3).unwrap()), [3, 5, 7]);
    assert_eq!(ids(store.scan(USERS, None, None, 100).unwrap()), [] as [u8; 0]);
    assert_eq!(store.count(KEYS, None).unwrap(), 10);
    assert_eq!(store.count(KEYS, Some(&group(0))).unwrap(), 5);

    let leaves = Change::Put {
        kind: KEYS,
        id: id(0),
        expect: Some(Revision(1)),
        sealed: vec![],
        index: vec![],
        group: Some(group(1)),
    };
    store.commit(Revision(1), &[leaves, delete(1, 1)]).unwrap();
    assert_eq!(store.count(KEYS, None).unwrap(), 9);
    assert_eq!(store.count(KEYS, Some(&group(0))).unwrap(), 4);
    assert_eq!(store.count(KEYS, Some(&group(1))).unwrap(), 5);
    assert_eq!(store.count(KEYS, Some(&group(2))).unwrap(), 0);
}

#[test]
fn the_feed_names_what_changed_once_and_forgets_what_is_long_ago() {
    let place = Place::new();
    let (mut writer, mut follower) = (place.open(), place.open());
    writer.commit(Revision(0), &[put(1, None, b"a", &[]), put(2, None, b"b", &[])]).unwrap();
    writer.commit(Revision(1), &[put(1, Some(Revision(1)), b"c", &[])]).unwrap();
    writer.commit(Revision(2), &[delete(2, 1)]).unwrap();

    let (now, Changes::These(mut these)) = follower.changes_since(Revision(0)).unwrap() else { panic!() };
    these.sort_unstable();
    assert_eq!((now, these), (Revision(3), vec![(KEYS, id(1)), (KEYS, id(2))]));
    let last = follower.changes_since(Revision(2)).unwrap();
    assert_eq!(last, (Revision(3), Changes::These(vec![(KEYS, id(2))])));
    assert_eq!(follower.changes_since(now).unwrap(), (now, Changes::These(vec![])));
    assert_eq!(
        follower.changes_since(Revision(4)).unwrap(),
        (now, Changes::All),
        "a revision from the future: the store was replaced"
    );

    writer.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let (mut revision, mut version) = (now, Revision(2));
    for _ in 0..FEED_LENGTH {
        revision = writer.commit(revision, &[put(1, Some(version), b"", &[])]).unwrap();
        version = revision;
    }
    assert_eq!(follower.changes_since(Revision(2)).unwrap(), (revision, Changes::All));
    assert_eq!(
        follower.changes_since(now).unwrap(),
        (revision, Changes::These(vec![(KEYS, id(1))])),
        "just inside of the feed"
    );
    let rows: u64 = writer.db.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, FEED_LENGTH, "the feed is pruned");
}

#[test]
fn the_file_and_its_companions_are_private() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(Revision(0), &[put(1, None, b"one", &[])]).unwrap();
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let metadata = fs::metadata(place.directory.path().join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_store_that_others_can_reach_is_refused() {
    let place = Place::new();
    drop(place.open());
    let refused = |mode, path: &Path| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let error = SqliteStore::open(&place.path()).err().unwrap();
        assert!(matches!(error, StoreError::Exposed { .. }), "{error}");
        assert!(error.to_string().contains("chmod"), "{error}");
    };
    refused(0o640, &place.path());
    fs::set_permissions(place.path(), Permissions::from_mode(0o600)).unwrap();
    refused(0o770, place.directory.path());
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o700)).unwrap();
    place.open();

    let link = place.directory.path().join("link.db");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    assert!(matches!(SqliteStore::open(&link), Err(StoreError::Exposed { .. })));
    assert!(matches!(
        SqliteStore::open(&place.directory.path().join("absent/store.db")),
        Err(StoreError::Open { .. })
    ));
}

#[test]
fn foreign_newer_and_broken_files_are_told_apart_and_left_alone() {
    let foreign = Place::new();
    let db = Connection::open(foreign.path()).unwrap();
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(db);
    fs::set_permissions(foreign.path(), Permissions::from_mode(0o600)).unwrap();
    let before = fs::read(foreign.path()).unwrap();
    assert!(matches!(SqliteStore::open(&foreign.path()), Err(StoreError::NotAStore { .. })));
    assert_eq!(fs::read(foreign.path()).unwrap(), before);

    let newer = Place::new();
    newer.open().db.pragma_update(None, "user_version", 2).unwrap();
    let error = SqliteStore::open(&newer.path()).err().unwrap();
    assert!(matches!(error, StoreError::TooNew { found: 2, known: 1, .. }), "{error}");

    let garbage = Place::new();
    fs::write(garbage.path(), "this is not a database, but long enough to be taken for one".repeat(100))
        .unwrap();
    fs::set_permissions(garbage.path(), Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(SqliteStore::open(&garbage.path()), Err(StoreError::NotAStore { .. })));

    let damaged = Place::new();
    let mut store = damaged.open();
    for n in 0..50 {
        store.commit(Revision(n.into()), &[put(n, None, &[n; 3000], &[n])]).unwrap();
    }
    drop(store);
    let mut bytes = fs::read(damaged.path()).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(damaged.path(), bytes).unwrap();
    let error = SqliteStore::open(&damaged.path()).and_then(|mut store| store.load(KEYS, id(1))).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}
