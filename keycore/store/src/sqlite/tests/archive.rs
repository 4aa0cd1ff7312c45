//! Exports of one moment, imports of all or nothing.

use super::*;

fn filled() -> (Place, SqliteStore) {
    let place = Place::new();
    let mut store = place.open();
    let mut revision = Revision(0);
    for n in 0..7 {
        let change = Change::Put {
            kind: if n % 2 == 0 { KEYS } else { USERS },
            id: id(n),
            expect: None,
            sealed: vec![n; 3],
            index: vec![tag(n), tag(100 + n)],
            group: (n < 4).then(|| group(n % 2)),
        };
        revision = store.commit(revision, &[change]).unwrap();
    }
    (place, store)
}

fn all(store: &mut SqliteStore, page: usize) -> Vec<ArchivedRecord> {
    let mut records: Vec<ArchivedRecord> = Vec::new();
    loop {
        let after = records.last().map(|record| (record.kind, record.id));
        let found = store.export(after, page).unwrap();
        if found.is_empty() {
            records.iter_mut().for_each(|record| record.index.sort_unstable());
            return records;
        }
        records.extend(found);
    }
}

#[test]
fn an_export_sees_one_moment_and_holds_nobody_up() {
    let (place, mut writer) = filled();
    let mut reader = place.open();
    let inventory = reader.begin_export().unwrap();
    assert_eq!(inventory, Inventory { revision: Revision(7), counts: vec![(KEYS, 4), (USERS, 3)] });
    let first = reader.export(None, 2).unwrap();
    writer.commit(Revision(7), &[put(9, None, b"later", &[]), delete(6, 7)]).unwrap();
    let rest = reader.export(Some((first[1].kind, first[1].id)), 100).unwrap();
    assert_eq!(first.len() + rest.len(), 7, "neither the new one, nor without the deleted one");
    reader.end_export();
    assert_eq!(reader.begin_export().unwrap().revision, Revision(8));
    for page in [1, 3, 100] {
        let records = all(&mut reader, page);
        assert_eq!(records.iter().filter(|record| record.kind == KEYS).count(), 4, "pages of {page}");
        assert_eq!(records[0].index, [tag(0), tag(100)]);
        assert_eq!((records[0].version, records[0].group), (Revision(1), Some(group(0))));
    }
}

#[test]
fn what_was_exported_is_imported_as_it_was() {
    let (_place, mut source) = filled();
    source.begin_export().unwrap();
    let records = all(&mut source, 3);
    let place = Place::new();
    let (mut target, mut sibling) = (place.open(), place.open());
    assert_eq!(target.begin_import().unwrap(), Revision(0));
    for page in records.chunks(2) {
        target.import(page).unwrap();
    }
    assert_eq!(sibling.revision().unwrap(), Revision(0), "nothing is seen before the end");
    target.commit_import(Revision(9)).unwrap();

    assert_eq!(sibling.changes_since(Revision(0)).unwrap(), (Revision(9), Changes::All));
    assert_eq!(sibling.count(KEYS, Some(&group(0))).unwrap(), 2);
    assert_eq!(sibling.find(KEYS, &tag(104)).unwrap().unwrap().id, id(4));
    target.begin_export().unwrap();
    assert_eq!(all(&mut target, 4), records);
    target.end_export();

    sibling.commit(Revision(9), &[delete(0, 1)]).unwrap();
    let these = Changes::These(vec![(KEYS, id(0))]);
    assert_eq!(target.changes_since(Revision(9)).unwrap(), (Revision(10), these));
    assert_eq!(target.changes_since(Revision(8)).unwrap(), (Revision(10), Changes::All));
}

#[test]
fn an_import_needs_an_empty_store_and_leaves_one_when_it_does_not_end() {
    let (_place, mut full) = filled();
    assert!(matches!(full.begin_import(), Err(CommitError::Conflict)));
    let record = |n| ArchivedRecord {
        kind: KEYS,
        id: id(n),
        version: Revision(5),
        index: vec![tag(1)],
        group: None,
        sealed: vec![1],
    };
    let place = Place::new();
    let mut store = place.open();
    assert!(matches!(store.import(&[record(1)]), Err(CommitError::Conflict)), "not begun");
    store.begin_import().unwrap();
    store.import(&[record(1)]).unwrap();
    assert!(matches!(store.import(&[record(1)]), Err(CommitError::Repeated { .. })));
    store.abort_import();
    store.begin_import().unwrap();
    store.import(&[record(1)]).unwrap();
    assert!(matches!(store.import(&[record(2)]), Err(CommitError::Taken(KEYS))));
    assert!(
        matches!(store.commit_import(Revision(4)), Err(CommitError::Conflict)),
        "a record from the future"
    );
    drop(store);

    let mut store = place.open();
    assert_eq!(store.begin_export().unwrap(), Inventory { revision: Revision(0), counts: vec![] });
    store.end_export();
    store.begin_import().unwrap();
    store.import(&[record(1)]).unwrap();
    store.commit_import(Revision(5)).unwrap();
    assert_eq!(store.revision().unwrap(), Revision(5));
    // An erased store is empty, too, and its revision never goes back.
    store.erase().unwrap();
    assert_eq!(store.begin_import().unwrap(), Revision(6));
    store.import(&[record(1)]).unwrap();
    assert!(matches!(store.commit_import(Revision(6)), Err(CommitError::Conflict)));
    store.commit_import(Revision(7)).unwrap();
}
