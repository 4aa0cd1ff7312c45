//! Backups that come through the socket in pieces, to be verified or restored.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use keycore_backup::{BackupReader, Identity, Opener};
use keycore_wire::{
    BackupChunk, BackupContent, MAX_BACKUP_CHUNK, NewUnseal, RefusalCode, Secret, UnsealMethod,
};

use super::content::ContentCheck;
use super::restore::Restore;
use super::{Failure, content_of};
use crate::cluster::NewMethod;
use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::options::Now;
use crate::policy::Permission;
use crate::{lifecycle, unseal};

/// Most backups that are read at the same time; each takes some 2 MiB.
const MAX_FEEDS: usize = 4;

/// The backups that connections are sending.
#[derive(Default)]
pub(crate) struct Feeds {
    /// By the connection's number. Held while a piece is worked on.
    open: Mutex<HashMap<u64, Feed>>,
    /// Connections that have one, as the event loop knows: never held for long.
    connections: Mutex<HashSet<u64>>,
}

struct Feed {
    offset: u64,
    reader: BackupReader,
    check: ContentCheck,
    /// None if it is verified only.
    restore: Option<Restore>,
}

impl Feeds {
    /// Whether the connection sends a backup.
    pub(crate) fn has(&self, connection: u64) -> bool {
        locked(&self.connections).contains(&connection)
    }

    /// The connection ended. What it sent is undone by the next [`Engine::drop_orphans`].
    pub(crate) fn disconnect(&self, connection: u64) {
        locked(&self.connections).remove(&connection);
    }

    fn end(&self, connection: u64) {
        locked(&self.connections).remove(&connection);
    }
}

impl Engine {
    /// Undoes restores whose connection ended.
    pub(crate) fn drop_orphans(&self) {
        // Somebody works on one: the next call comes soon.
        let Ok(mut open) = self.backups.feeds.open.try_lock() else { return };
        open.retain(|&connection, feed| {
            let lives = self.backups.feeds.has(connection);
            if !lives {
                feed.abort(self);
            }
            lives
        });
    }
}

/// Begins to verify.
pub(crate) fn verify(
    engine: &Engine,
    _permission: &Permission,
    connection: u64,
    identity: &Secret,
) -> Result<(), Denial> {
    begin(engine, connection, identity, None)
}

/// Begins to restore, or to rehearse it.
pub(crate) fn restore(
    engine: &Engine,
    _permission: &Permission,
    connection: u64,
    identity: &Secret,
    rehearse: bool,
) -> Result<(), Denial> {
    if engine.sealing.get().is_some() {
        return Err(Failure::NotEmpty.into());
    }
    engine.backups.archive()?;
    begin(engine, connection, identity, Some(Restore::new(rehearse)))
}

fn begin(
    engine: &Engine,
    connection: u64,
    identity: &Secret,
    restore: Option<Restore>,
) -> Result<(), Denial> {
    let identity = Identity::parse(identity.expose())
        .map_err(|error| Denial::new(RefusalCode::WrongIdentity, error.to_string()))?;
    engine.drop_orphans();
    let feeds = &engine.backups.feeds;
    let mut open = locked(&feeds.open);
    // One restore at a time: a new one takes the place of one that was left, by this connection or another.
    open.retain(|&other, feed| {
        let replaced = other == connection || (restore.is_some() && feed.restore.is_some());
        if replaced {
            feed.abort(engine);
            feeds.end(other);
        }
        !replaced
    });
    if open.len() >= MAX_FEEDS {
        return Err(Denial::new(RefusalCode::Overloaded, "other backups are being read; try again"));
    }
    let reader = BackupReader::new(Opener::Identity(identity));
    open.insert(connection, Feed { offset: 0, reader, check: ContentCheck::default(), restore });
    locked(&feeds.connections).insert(connection);
    Ok(())
}

/// Takes a piece. After a refusal the backup has to be sent from its beginning.
pub(crate) fn chunk(
    engine: &Engine,
    _permission: &Permission,
    connection: u64,
    chunk: &BackupChunk<'_>,
) -> Result<(), Denial> {
    if chunk.bytes.len() > MAX_BACKUP_CHUNK {
        return Err(Denial::malformed(format!("a chunk has at most {MAX_BACKUP_CHUNK} bytes")));
    }
    let mut open = locked(&engine.backups.feeds.open);
    let feed = open.get_mut(&connection).ok_or_else(nothing_begun)?;
    let taken = feed.take(engine, chunk);
    if taken.is_err() {
        feed.abort(engine);
        open.remove(&connection);
        engine.backups.feeds.end(connection);
    }
    Ok(taken?)
}

/// The backup is complete.
pub(crate) fn end(
    engine: &Engine,
    _permission: &Permission,
    connection: u64,
    now: Now,
) -> Result<BackupContent, Denial> {
    finish(engine, connection, None, now)
}

/// The backup that is restored is complete; what unseals it from now on.
pub(crate) fn end_by(
    engine: &Engine,
    permission: &Permission,
    connection: u64,
    method: UnsealMethod,
    now: Now,
) -> Result<(BackupContent, NewUnseal), Denial> {
    if !restores(engine, connection) {
        return Err(Denial::new(
            RefusalCode::BadBackup,
            "this connection restores nothing, or it was refused",
        ));
    }
    let mut method = unseal::new_method_here(engine, method)?;
    // What can fail, fails before the shares count.
    let before = lifecycle::status(engine, permission)?;
    let content = finish(engine, connection, Some(&method), now)?;
    let status = Box::new(lifecycle::status(engine, permission).unwrap_or(before));
    Ok((content, NewUnseal { status, shares: core::mem::take(&mut method.shares) }))
}

fn finish(
    engine: &Engine,
    connection: u64,
    method: Option<&NewMethod>,
    now: Now,
) -> Result<BackupContent, Denial> {
    let mut open = locked(&engine.backups.feeds.open);
    // Looked at again: the connection may have begun another meanwhile.
    if method.is_some() && !open.get(&connection).is_some_and(Feed::is_to_stay) {
        return Err(nothing_begun());
    }
    let feed = open.remove(&connection).ok_or_else(nothing_begun)?;
    engine.backups.feeds.end(connection);
    let ended = feed.finish(engine, method, now);
    drop(open);
    // What a restore made is looked at by whoever asks next.
    let _followed = engine.follow(now);
    Ok(ended?)
}

impl Feed {
    fn take(&mut self, engine: &Engine, chunk: &BackupChunk<'_>) -> Result<(), Failure> {
        if chunk.offset != self.offset {
            let what = format!("the bytes at {} were expected, not those at {}", self.offset, chunk.offset);
            return Err(Failure::Content(what));
        }
        self.offset += chunk.bytes.len() as u64;
        let Self { reader, check, restore, .. } = self;
        reader.push(chunk.bytes, |item| match (check.take(item)?, &mut *restore) {
            (Some(record), Some(restore)) => restore.take(engine, check, record),
            _ => Ok(()),
        })
    }

    fn finish(self, engine: &Engine, method: Option<&NewMethod>, now: Now) -> Result<BackupContent, Failure> {
        let Self { reader, mut check, mut restore, .. } = self;
        let finished = reader.finish(|item| match (check.take(item)?, &mut restore) {
            (Some(record), Some(restore)) => restore.take(engine, &check, record),
            _ => Ok::<_, Failure>(()),
        });
        let finished = finished.and_then(|manifest| {
            let opened = check.finish(&manifest)?;
            if let Some(restore) = &mut restore {
                restore.finish(engine, &opened, &manifest, method, now)?;
            }
            Ok(content_of(&manifest))
        });
        if let (Err(_), Some(restore)) = (&finished, &restore) {
            restore.abort(engine);
        }
        finished
    }

    /// Whether what comes is to stay.
    fn is_to_stay(&self) -> bool {
        self.restore.as_ref().is_some_and(|restore| !restore.is_rehearsed())
    }

    fn abort(&self, engine: &Engine) {
        if let Some(restore) = &self.restore {
            restore.abort(engine);
        }
    }
}

/// Whether the connection sends a backup that is to stay.
pub(crate) fn restores(engine: &Engine, connection: u64) -> bool {
    locked(&engine.backups.feeds.open).get(&connection).is_some_and(Feed::is_to_stay)
}

fn nothing_begun() -> Denial {
    Denial::new(RefusalCode::BadBackup, "this connection has begun no backup, or it was refused")
}

#[cfg(test)]
mod tests;
