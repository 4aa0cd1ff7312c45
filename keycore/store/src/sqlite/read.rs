//! The questions.

use rusqlite::{Connection, OptionalExtension, Result, Row, TransactionBehavior, params};

use crate::record::{Changes, GroupTag, IndexTag, Kind, Record, RecordId, Revision};
use crate::sqlite::FEED_LENGTH;

pub(super) const LOAD: &str = "SELECT id, version, sealed FROM records WHERE kind = ?1 AND id = ?2";

pub(super) const FIND: &str =
    "SELECT r.id, r.version, r.sealed FROM tags t JOIN records r ON r.kind = t.kind AND r.id = t.id
     WHERE t.kind = ?1 AND t.tag = ?2";

/// A number that changes when another connection commits.
pub(super) fn data_version(db: &Connection) -> Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

pub(super) fn revision(db: &Connection) -> Result<Revision> {
    db.prepare_cached("SELECT revision FROM state")?.query_row([], |row| Ok(Revision(row.get(0)?)))
}

pub(super) fn load(db: &Connection, kind: Kind, id: RecordId) -> Result<Option<Record>> {
    db.prepare_cached(LOAD)?.query_row(params![kind.0, id.0], record).optional()
}

pub(super) fn find(db: &Connection, kind: Kind, tag: &IndexTag) -> Result<Option<Record>> {
    db.prepare_cached(FIND)?.query_row(params![kind.0, tag.0], record).optional()
}

pub(super) fn scan(
    db: &Connection,
    kind: Kind,
    group: Option<&GroupTag>,
    after: Option<RecordId>,
    limit: usize,
) -> Result<Vec<Record>> {
    // The empty blob sorts before every id.
    let after: &[u8] = after.as_ref().map_or(&[], |id| &id.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    match group {
        None => db
            .prepare_cached(
                "SELECT id, version, sealed FROM records WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            )?
            .query_map(params![kind.0, after, limit], record)?
            .collect(),
        Some(group) => db
            .prepare_cached(
                "SELECT id, version, sealed FROM records
                 WHERE kind = ?1 AND group_tag = ?2 AND id > ?3 ORDER BY id LIMIT ?4",
            )?
            .query_map(params![kind.0, group.0, after, limit], record)?
            .collect(),
    }
}

pub(super) fn count(db: &Connection, kind: Kind, group: Option<&GroupTag>) -> Result<u64> {
    let group: &[u8] = group.map_or(&[], |group| &group.0);
    let count = db
        .prepare_cached("SELECT records FROM counts WHERE kind = ?1 AND group_tag = ?2")?
        .query_row(params![kind.0, group], |row| row.get(0))
        .optional()?;
    Ok(count.unwrap_or(0))
}

pub(super) fn walk(
    db: &Connection,
    after: Option<(Kind, RecordId)>,
    limit: usize,
) -> Result<Vec<(Kind, Record)>> {
    // Kinds are not negative, and the empty blob sorts before every id.
    let kind = after.map_or(-1, |(kind, _)| i64::from(kind.0));
    let id: &[u8] = after.as_ref().map_or(&[], |(_, id)| &id.0);
    db.prepare_cached(
        "SELECT id, version, sealed, kind FROM records WHERE (kind, id) > (?1, ?2) ORDER BY kind, id LIMIT ?3",
    )?
    .query_map(params![kind, id, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok((Kind(row.get(3)?), record(row)?))
    })?
    .collect()
}

pub(super) fn total(db: &Connection) -> Result<u64> {
    db.prepare_cached("SELECT coalesce(sum(records), 0) FROM counts WHERE group_tag = x''")?
        .query_row([], |row| row.get(0))
}

pub(super) fn changes_since(db: &mut Connection, since: Revision) -> Result<(Revision, Changes)> {
    // One transaction, so that the revision and the feed are of the same moment.
    let snapshot = db.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let now = revision(&snapshot)?;
    // A revision from the future means that the store was replaced by an older one.
    if since > now || now.0 - since.0 > FEED_LENGTH {
        return Ok((now, Changes::All));
    }
    // Every commit is in the feed, but a restored backup is not: then its first commit is not the next one.
    let first: Option<u64> =
        snapshot.prepare_cached("SELECT min(revision) FROM changes")?.query_row([], |row| row.get(0))?;
    if since < now && first.is_none_or(|first| first > since.0 + 1) {
        return Ok((now, Changes::All));
    }
    let these = snapshot
        .prepare_cached("SELECT DISTINCT kind, id FROM changes WHERE revision > ?1")?
        .query_map([since.0], |row| Ok((Kind(row.get(0)?), RecordId(row.get(1)?))))?
        .collect::<Result<_>>()?;
    Ok((now, Changes::These(these)))
}

fn record(row: &Row<'_>) -> Result<Record> {
    Ok(Record { id: RecordId(row.get(0)?), version: Revision(row.get(1)?), sealed: row.get(2)? })
}
