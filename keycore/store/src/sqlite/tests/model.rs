//! Any sequence of commits does the same to the store and to a model of a few maps.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Default)]
struct Model {
    revision: u64,
    records: BTreeMap<(u8, u8), ModelRecord>,
    feed: Vec<(u64, Kind, RecordId)>,
}

#[derive(Debug, Clone)]
struct ModelRecord {
    version: u64,
    content: u8,
    tags: Vec<u8>,
    group: Option<u8>,
}

/// A change as the test draws it; whether the version expected is the right one is drawn too.
#[derive(Debug, Clone)]
struct Draw {
    kind: u8,
    id: u8,
    content: u8,
    delete: bool,
    right_version: bool,
    tags: Vec<u8>,
    group: Option<u8>,
}

fn draw() -> impl Strategy<Value = Draw> {
    (
        1..3u8,
        0..5u8,
        any::<u8>(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.95),
        prop::collection::btree_set(0..8u8, 0..3),
        prop::option::of(0..3u8),
    )
        .prop_map(|(kind, id, content, delete, right_version, tags, group)| {
            let tags = tags.into_iter().collect();
            Draw { kind, id, content, delete, right_version, tags, group }
        })
}

impl Model {
    fn change(&self, draw: &Draw) -> Change {
        let version = self.records.get(&(draw.kind, draw.id)).map(|record| record.version);
        let expect =
            if draw.right_version { version } else { Some(version.map_or(1, |version| version - 1)) };
        let expect = expect.map(Revision);
        let (kind, id) = (Kind(draw.kind), id(draw.id));
        match expect {
            Some(expect) if draw.delete => Change::Delete { kind, id, expect },
            Some(expect) if draw.content.is_multiple_of(4) => {
                Change::Reseal { kind, id, expect, sealed: vec![draw.content] }
            }
            _ => Change::Put {
                kind,
                id,
                expect,
                sealed: vec![draw.content],
                index: draw.tags.iter().copied().map(tag).collect(),
                group: draw.group.map(group),
            },
        }
    }

    /// What a commit should do: the new model, or the kind of refusal.
    fn commit(&self, changes: &[Change]) -> Result<Self, &'static str> {
        let mut new = self.clone();
        new.revision += 1;
        for (at, change) in changes.iter().enumerate() {
            let (kind, id) = change.record();
            if changes[..at].iter().any(|other| other.record() == (kind, id)) {
                return Err("repeated");
            }
        }
        for change in changes {
            let (kind, id) = change.record();
            let slot = (kind.0, id.0[0]);
            let version = new.records.get(&slot).map(|record| Revision(record.version));
            match change {
                Change::Put { expect, .. } if *expect != version => return Err("conflict"),
                Change::Reseal { expect, .. } | Change::Delete { expect, .. } if Some(*expect) != version => {
                    return Err("conflict");
                }
                Change::Put { sealed, index, group, .. } => {
                    let record = ModelRecord {
                        version: new.revision,
                        content: sealed[0],
                        tags: index.iter().map(|tag| tag.0[0]).collect(),
                        group: group.map(|group| group.0[0]),
                    };
                    new.records.insert(slot, record);
                }
                Change::Reseal { sealed, .. } => {
                    let record = new.records.get_mut(&slot).unwrap();
                    (record.version, record.content) = (new.revision, sealed[0]);
                }
                Change::Delete { .. } => drop(new.records.remove(&slot)),
            }
            new.feed.push((new.revision, kind, id));
        }
        for kind in 1..3 {
            let mut tags: Vec<_> = new.of(kind).flat_map(|(_, record)| &record.tags).collect();
            let all = tags.len();
            tags.sort_unstable();
            tags.dedup();
            if tags.len() < all {
                return Err("taken");
            }
        }
        Ok(new)
    }

    fn of(&self, kind: u8) -> impl Iterator<Item = (u8, &ModelRecord)> {
        self.records.iter().filter(move |((of, _), _)| *of == kind).map(|((_, id), record)| (*id, record))
    }

    fn agrees_with(&self, store: &mut SqliteStore) -> Result<(), TestCaseError> {
        prop_assert_eq!(store.revision().unwrap(), Revision(self.revision));
        let walked: Vec<_> = self
            .records
            .iter()
            .map(|((kind, n), of)| (Kind(*kind), record(*n, of.version, &[of.content])))
            .collect();
        prop_assert_eq!(store.total().unwrap(), walked.len() as u64);
        let first = store.walk(None, 2).unwrap();
        let after = first.last().map(|(kind, record)| (*kind, record.id));
        let rest = if after.is_some() { store.walk(after, 100).unwrap() } else { Vec::new() };
        prop_assert_eq!([first, rest].concat(), walked);
        for kind in 1..3 {
            let as_stored = |(n, model): (u8, &ModelRecord)| record(n, model.version, &[model.content]);
            let all: Vec<_> = self.of(kind).map(as_stored).collect();
            prop_assert_eq!(store.count(Kind(kind), None).unwrap(), all.len() as u64);
            prop_assert_eq!(store.scan(Kind(kind), None, None, 100).unwrap(), all);
            for n in 0..3 {
                let of_group = self.of(kind).filter(|(_, record)| record.group == Some(n));
                let members: Vec<_> = of_group.map(as_stored).collect();
                prop_assert_eq!(store.count(Kind(kind), Some(&group(n))).unwrap(), members.len() as u64);
                prop_assert_eq!(store.scan(Kind(kind), Some(&group(n)), None, 100).unwrap(), members);
            }
            for n in 0..8 {
                let owner = self.of(kind).find(|(_, record)| record.tags.contains(&n)).map(as_stored);
                prop_assert_eq!(store.find(Kind(kind), &tag(n)).unwrap(), owner);
            }
        }
        let since = self.revision / 2;
        let mut expected: Vec<_> =
            self.feed.iter().filter(|(at, ..)| *at > since).map(|&(_, kind, id)| (kind, id)).collect();
        expected.sort_unstable();
        expected.dedup();
        let (_, Changes::These(mut these)) = store.changes_since(Revision(since)).unwrap() else { panic!() };
        these.sort_unstable();
        prop_assert_eq!(these, expected);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(commits in vec(vec(draw(), 1..4), 1..20)) {
        let place = Place::new();
        let mut handles = [place.open(), place.open()];
        for handle in &handles {
            handle.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
        }
        let mut model = Model::default();
        for (at, draws) in commits.iter().enumerate() {
            let changes: Vec<_> = draws.iter().map(|draw| model.change(draw)).collect();
            let outcome = handles[at % 2].commit(Revision(model.revision), &changes);
            match (model.commit(&changes), outcome) {
                (Ok(new), Ok(revision)) => {
                    prop_assert_eq!(revision, Revision(new.revision));
                    model = new;
                }
                (Err("conflict"), Err(CommitError::Conflict))
                | (Err("taken"), Err(CommitError::Taken(_)))
                | (Err("repeated"), Err(CommitError::Repeated { .. })) => {}
                (model, store) => prop_assert!(false, "{:?}: model {:?}, store {:?}", changes, model, store),
            }
        }
        for handle in &mut handles {
            model.agrees_with(handle)?;
        }
    }
}
