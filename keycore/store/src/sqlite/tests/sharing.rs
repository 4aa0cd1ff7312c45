//! Several handles at once: threads here, processes by running this test binary again.

use std::process::Command;
use std::thread;

use super::*;

/// Adds `count` to the number in record 1 by steps of one, as a replica would: read, decide, commit, again on conflict.
fn add(store: &mut SqliteStore, count: u32) {
    for _ in 0..count {
        loop {
            let base = store.revision().unwrap();
            let old = store.load(KEYS, id(1)).unwrap();
            let (expect, number) = match &old {
                None => (None, 0),
                Some(old) => (Some(old.version), u32::from_be_bytes(old.sealed.clone().try_into().unwrap())),
            };
            match store.commit(base, &[put(1, expect, &(number + 1).to_be_bytes(), &[1])]) {
                Ok(_) => break,
                Err(CommitError::Conflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn number(place: &Place) -> u32 {
    let record = place.open().load(KEYS, id(1)).unwrap().unwrap();
    u32::from_be_bytes(record.sealed.try_into().unwrap())
}

#[test]
fn threads_that_open_and_commit_at_once_lose_nothing() {
    let place = Place::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            // Each makes the store if it is the first.
            scope.spawn(|| add(&mut place.open(), 25));
        }
    });
    assert_eq!(number(&place), 100);
    assert_eq!(place.open().revision().unwrap(), Revision(100), "one commit for each step");
}

#[test]
fn processes_that_commit_at_once_lose_nothing() {
    let place = Place::new();
    let children: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "sqlite::tests::sharing::child_of_the_test_above", "--ignored", "--quiet"])
                .env("KEYCORE_STORE_TEST", place.path())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(number(&place), 60);
}

#[test]
#[ignore = "run by processes_that_commit_at_once_lose_nothing"]
fn child_of_the_test_above() {
    if let Some(path) = std::env::var_os("KEYCORE_STORE_TEST") {
        add(&mut SqliteStore::open(Path::new(&path)).unwrap(), 20);
    }
}

#[test]
fn a_follower_sees_the_commits_of_others_and_of_itself() {
    let place = Place::new();
    let (mut one, mut two) = (place.open(), place.open());
    for round in 0..20 {
        let (writer, other) = if round % 3 == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        add(writer, 1);
        assert_eq!(writer.revision().unwrap(), Revision(round + 1));
        let (now, changes) = other.changes_since(Revision(round)).unwrap();
        assert_eq!((now, changes), (Revision(round + 1), Changes::These(vec![(KEYS, id(1))])));
    }
}
