//! Reading a whole store out of one read transaction, and filling an empty one in one write transaction.

use rusqlite::{Connection, ErrorCode, Result, params};

use super::commit::{Error, add_to_counts, insert_tags};
use super::read;
use crate::archive::{ArchivedRecord, Inventory};
use crate::record::{GroupTag, IndexTag, Kind, RecordId, Revision};

/// Begins a read transaction; its snapshot is taken by the first read.
pub(super) fn begin_export(db: &Connection) -> Result<Inventory> {
    end(db);
    db.execute_batch("BEGIN DEFERRED")?;
    let revision = read::revision(db)?;
    let counts = db
        .prepare_cached("SELECT kind, records FROM counts WHERE group_tag = x'' ORDER BY kind")?
        .query_map([], |row| Ok((Kind(row.get(0)?), row.get(1)?)))?
        .collect::<Result<_>>()?;
    Ok(Inventory { revision, counts })
}

pub(super) fn export(
    db: &Connection,
    after: Option<(Kind, RecordId)>,
    limit: usize,
) -> Result<Vec<ArchivedRecord>> {
    // Kinds are not negative, and the empty blob sorts before every id.
    let kind = after.map_or(-1, |(kind, _)| i64::from(kind.0));
    let id: &[u8] = after.as_ref().map_or(&[], |(_, id)| &id.0);
    let mut records: Vec<ArchivedRecord> = db
        .prepare_cached(
            "SELECT kind, id, version, group_tag, sealed FROM records
             WHERE (kind, id) > (?1, ?2) ORDER BY kind, id LIMIT ?3",
        )?
        .query_map(params![kind, id, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(ArchivedRecord {
                kind: Kind(row.get(0)?),
                id: RecordId(row.get(1)?),
                version: Revision(row.get(2)?),
                index: Vec::new(),
                group: row.get::<_, Option<[u8; 32]>>(3)?.map(GroupTag),
                sealed: row.get(4)?,
            })
        })?
        .collect::<Result<_>>()?;
    let mut tags = db.prepare_cached("SELECT tag FROM tags WHERE kind = ?1 AND id = ?2")?;
    for record in &mut records {
        record.index = tags
            .query_map(params![record.kind.0, record.id.0], |row| Ok(IndexTag(row.get(0)?)))?
            .collect::<Result<_>>()?;
    }
    Ok(records)
}

pub(super) fn begin_import(db: &Connection) -> Result<Revision, Error> {
    end(db);
    db.execute_batch("BEGIN IMMEDIATE")?;
    let records: bool = db.query_row("SELECT EXISTS (SELECT 1 FROM records)", [], |row| row.get(0))?;
    if records {
        end(db);
        return Err(Error::Conflict);
    }
    Ok(read::revision(db)?)
}

pub(super) fn import(db: &Connection, records: &[ArchivedRecord]) -> Result<(), Error> {
    if db.is_autocommit() {
        return Err(Error::Conflict);
    }
    for ArchivedRecord { kind, id, version, index, group, sealed } in records {
        let inserted = db
            .prepare_cached(
                "INSERT INTO records (kind, id, version, group_tag, sealed) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![kind.0, id.0, version.0, group.map(|group| group.0), sealed]);
        match inserted {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(Error::Repeated(*kind, *id));
            }
            Err(error) => return Err(error.into()),
        }
        add_to_counts(db, *kind, group.as_ref(), 1)?;
        insert_tags(db, *kind, *id, index)?;
    }
    Ok(())
}

pub(super) fn commit_import(db: &Connection, revision: Revision) -> Result<(), Error> {
    if db.is_autocommit() {
        return Err(Error::Conflict);
    }
    let newest: Option<u64> = db.query_row("SELECT max(version) FROM records", [], |row| row.get(0))?;
    if read::revision(db)? >= revision || newest.is_some_and(|newest| newest > revision.0) {
        return Err(Error::Conflict);
    }
    // The feed stays empty: whoever followed the empty store is told that everything changed.
    db.execute("UPDATE state SET revision = ?1", [revision.0])?;
    db.execute_batch("COMMIT")?;
    Ok(())
}

/// Ends the transaction, if there is one.
pub(super) fn end(db: &Connection) {
    if !db.is_autocommit() {
        // Fails only if SQLite has ended it by itself, after an error.
        let _already_over = db.execute_batch("ROLLBACK");
    }
}
