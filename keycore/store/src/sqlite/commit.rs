//! The one way to change something.

use std::collections::HashSet;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use crate::record::{Change, GroupTag, IndexTag, Kind, RecordId, Revision};
use crate::sqlite::{FEED_LENGTH, read};

pub(super) enum Error {
    Conflict,
    Taken(Kind),
    Repeated(Kind, RecordId),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// All or nothing: a transaction that is dropped rolls back.
pub(super) fn commit(db: &mut Connection, base: Revision, changes: &[Change]) -> Result<Revision, Error> {
    let mut named = HashSet::with_capacity(changes.len());
    if let Some(again) = changes.iter().map(Change::record).find(|&record| !named.insert(record)) {
        return Err(Error::Repeated(again.0, again.1));
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if read::revision(&transaction)? != base {
        return Err(Error::Conflict);
    }
    let new = base.next();
    for change in changes {
        apply(&transaction, new, change)?;
    }
    // After all records gave theirs up, so that a tag can move between records of this commit.
    for change in changes {
        if let Change::Put { kind, id, index, .. } = change {
            insert_tags(&transaction, *kind, *id, index)?;
        }
    }
    transaction.prepare_cached("UPDATE state SET revision = ?1")?.execute([new.0])?;
    transaction
        .prepare_cached("DELETE FROM changes WHERE revision <= ?1")?
        .execute([new.0.saturating_sub(FEED_LENGTH)])?;
    transaction.commit()?;
    Ok(new)
}

/// Deletes everything, and then what the write-ahead log still has of it.
pub(super) fn erase(db: &mut Connection) -> rusqlite::Result<Revision> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let new = read::revision(&transaction)?.next();
    transaction
        .execute_batch("DELETE FROM tags; DELETE FROM records; DELETE FROM counts; DELETE FROM changes;")?;
    transaction.execute("UPDATE state SET revision = ?1", [new.0])?;
    transaction.commit()?;
    // A sibling that reads keeps some of the log; the next checkpoint empties it.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(new)
}

/// Writes or deletes one record, frees its tags, counts it and puts it into the feed.
fn apply(db: &Connection, new: Revision, change: &Change) -> Result<(), Error> {
    let (kind, id) = change.record();
    let old: Option<(u64, Option<[u8; 32]>)> = db
        .prepare_cached("SELECT version, group_tag FROM records WHERE kind = ?1 AND id = ?2")?
        .query_row(params![kind.0, id.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let expected = match change {
        Change::Put { expect, .. } => *expect,
        Change::Reseal { expect, .. } | Change::Delete { expect, .. } => Some(*expect),
    };
    if old.map(|(version, _)| Revision(version)) != expected {
        return Err(Error::Conflict);
    }
    if let Some((_, group)) = old
        && !matches!(change, Change::Reseal { .. })
    {
        db.prepare_cached("DELETE FROM tags WHERE kind = ?1 AND id = ?2")?.execute(params![kind.0, id.0])?;
        add_to_counts(db, kind, group.map(GroupTag).as_ref(), -1)?;
    }
    match change {
        Change::Put { sealed, group, .. } => {
            db.prepare_cached(
                "INSERT INTO records (kind, id, version, group_tag, sealed) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET version = ?3, group_tag = ?4, sealed = ?5",
            )?
            .execute(params![kind.0, id.0, new.0, group.map(|group| group.0), sealed])?;
            add_to_counts(db, kind, group.as_ref(), 1)?;
        }
        Change::Reseal { sealed, .. } => {
            db.prepare_cached("UPDATE records SET version = ?3, sealed = ?4 WHERE kind = ?1 AND id = ?2")?
                .execute(params![kind.0, id.0, new.0, sealed])?;
        }
        Change::Delete { .. } => {
            db.prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?
                .execute(params![kind.0, id.0])?;
        }
    }
    db.prepare_cached("INSERT INTO changes (revision, kind, id) VALUES (?1, ?2, ?3)")?
        .execute(params![new.0, kind.0, id.0])?;
    Ok(())
}

pub(super) fn insert_tags(db: &Connection, kind: Kind, id: RecordId, tags: &[IndexTag]) -> Result<(), Error> {
    let mut insert = db.prepare_cached("INSERT INTO tags (kind, tag, id) VALUES (?1, ?2, ?3)")?;
    for tag in tags {
        match insert.execute(params![kind.0, tag.0, id.0]) {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(Error::Taken(kind));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Counts a record in its kind (the empty group) and in its group.
pub(super) fn add_to_counts(
    db: &Connection,
    kind: Kind,
    group: Option<&GroupTag>,
    step: i64,
) -> Result<(), Error> {
    let whole_kind: &[u8] = &[];
    for group in [Some(whole_kind), group.map(|group| group.0.as_slice())].into_iter().flatten() {
        db.prepare_cached(
            "INSERT INTO counts (kind, group_tag, records) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET records = records + ?3",
        )?
        .execute(params![kind.0, group, step])?;
        if step < 0 {
            db.prepare_cached("DELETE FROM counts WHERE kind = ?1 AND group_tag = ?2 AND records = 0")?
                .execute(params![kind.0, group])?;
        }
    }
    Ok(())
}
