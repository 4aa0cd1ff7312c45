//! Opening the file: who else can touch it, whose it is, which format it has.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::StoreError;
use crate::sqlite::blame;

/// `PRAGMA application_id` of a store: "HSMK".
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"HSMK");

/// `PRAGMA user_version`: the format that `docs/store-format.md` describes.
pub(super) const FORMAT: u32 = 1;

/// How long an operation waits for another process's commit. A commit takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE state (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 0);

CREATE TABLE records (
    kind      INTEGER NOT NULL,
    id        BLOB NOT NULL,
    version   INTEGER NOT NULL,
    group_tag BLOB,
    sealed    BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE INDEX records_by_group ON records (kind, group_tag, id) WHERE group_tag IS NOT NULL;

CREATE TABLE tags (
    kind INTEGER NOT NULL,
    tag  BLOB NOT NULL,
    id   BLOB NOT NULL,
    PRIMARY KEY (kind, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_record ON tags (kind, id);

CREATE TABLE counts (
    kind      INTEGER NOT NULL,
    group_tag BLOB NOT NULL,
    records   INTEGER NOT NULL,
    PRIMARY KEY (kind, group_tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE changes (
    revision INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    id       BLOB NOT NULL,
    PRIMARY KEY (revision, kind, id)
) STRICT, WITHOUT ROWID;
";

/// Opens the file, and makes the store if it is new.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    secure(path)?;
    let failed = |error| blame(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // Before anything is written: WAL mode would change a foreign file.
    let snapshot = db.transaction().map_err(failed)?;
    let fresh = inspect(&snapshot, path)?;
    drop(snapshot);
    enter_wal(&db).map_err(failed)?;
    for (pragma, value) in [
        ("synchronous", "FULL"),
        ("secure_delete", "ON"), // a deleted key is overwritten, though it is sealed
        ("trusted_schema", "OFF"),
        ("cell_size_check", "ON"),
    ] {
        db.pragma_update(None, pragma, value).map_err(failed)?;
    }
    // Otherwise a statement is planned anew each time that its parameters change: half of what a lookup costs.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    db.set_prepared_statement_cache_capacity(32);
    if fresh {
        create(&mut db, path)?;
    }
    Ok(db)
}

/// Makes the file if it is not there, and refuses it if others than this user and root could reach it.
fn secure(path: &Path) -> Result<(), StoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Open { path, source }
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let exposed = |path: &Path, problem: String, remedy| {
        Err(StoreError::Exposed { path: path.to_owned(), problem, remedy })
    };
    let metadata = fs::metadata(directory).map_err(failed(directory))?;
    if metadata.mode() & 0o022 != 0 {
        let problem = format!("can be written by others (mode {:04o})", metadata.mode() & 0o7777);
        return exposed(directory, problem, "run chmod go-w on the directory");
    }
    match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(failed(directory))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(path)(error)),
    }
    let metadata = fs::symlink_metadata(path).map_err(failed(path))?;
    if !metadata.is_file() {
        return exposed(path, "is not a regular file".into(), "name the file itself");
    }
    if metadata.mode() & 0o077 != 0 {
        let problem = format!("can be reached by others (mode {:04o})", metadata.mode() & 0o7777);
        return exposed(path, problem, "run chmod 600 on it");
    }
    let myself = rustix::process::geteuid().as_raw();
    if metadata.uid() != myself && metadata.uid() != 0 {
        let problem = format!("belongs to the user {}, not to {myself}", metadata.uid());
        return exposed(path, problem, "run the engine as the owner, or chown it");
    }
    Ok(())
}

/// Whether the file is still empty; refuses one that is not a store or has a newer format. To be called within a
/// transaction: another process may be making the store.
fn inspect(db: &Connection, path: &Path) -> Result<bool, StoreError> {
    let number = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| blame(path, error));
    let application = number("PRAGMA application_id")?;
    let format = number("PRAGMA user_version")?;
    if application == i64::from(APPLICATION_ID) {
        return match u32::try_from(format) {
            Ok(FORMAT) => Ok(false),
            Ok(found) if found > FORMAT => {
                Err(StoreError::TooNew { path: path.to_owned(), found, known: FORMAT })
            }
            _ => Err(StoreError::Damaged { path: path.to_owned(), detail: format!("format {format}") }),
        };
    }
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if application == 0 && format == 0 && tables == 0 {
        return Ok(true);
    }
    Err(StoreError::NotAStore { path: path.to_owned() })
}

/// Makes the tables, unless another process was faster.
fn create(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| blame(path, error);
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    if inspect(&transaction, path)? {
        transaction.execute_batch(SCHEMA).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Switches to WAL mode. SQLite does not apply the busy timeout to this switch, so it is tried again while another
/// process makes it.
fn enter_wal(db: &Connection) -> Result<(), rusqlite::Error> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => return Err(error),
            outcome if Instant::now() > deadline => {
                return outcome.and(Err(rusqlite::Error::InvalidQuery));
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
