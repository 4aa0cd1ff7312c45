//! Keys that end with their session. They are sealed in the store, so that every replica has them.

use keycore_store::RecordId;
use keycore_wire::{KeyId, MAX_SESSION_KEYS, RefusalCode, SessionKeyList, UnixMillis};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::keys;
use crate::ledger::{Opened, Transaction};
use crate::policy::Permission;
use crate::records::{Revocation, SessionKeys, User};
use crate::session::Session;
use crate::snapshot::{Snapshot, user_record};

/// Will note a new key under its session. It lasts as long as any token of the session may be good on any replica: one whose
/// sessions are shorter ends the session there and not elsewhere.
pub(crate) fn note(records: &mut Transaction<'_>, session: &Session, key: KeyId) -> Result<(), Denial> {
    let id = RecordId(session.id);
    let (expect, before, mut keys) = match records.load::<SessionKeys>(id)? {
        Some(Opened { version, content, .. }) => (Some(version), content.expires_at, content.keys),
        None => (None, UnixMillis(0), Vec::new()),
    };
    if keys.len() >= MAX_SESSION_KEYS {
        let detail = format!("a session has at most {MAX_SESSION_KEYS} keys");
        return Err(Denial::new(RefusalCode::LimitReached, detail));
    }
    keys.push(key);
    let (user, credential) = (session.user, session.credential());
    let expires_at = before.max(session.token_expires_at);
    let content = SessionKeys { user, credential, expires_at, keys };
    records.put(id, expect, &content, Vec::new(), None)
}

/// Will strike a key off its session's.
pub(crate) fn forget(records: &mut Transaction<'_>, session: [u8; 16], key: KeyId) -> Result<(), Denial> {
    let Some(Opened { id, version, mut content }) = records.load::<SessionKeys>(RecordId(session))? else {
        return Ok(());
    };
    content.keys.retain(|other| *other != key);
    if content.keys.is_empty() {
        records.delete::<SessionKeys>(id, version);
        return Ok(());
    }
    records.put(id, Some(version), &content, Vec::new(), None)
}

/// The keys of the session that asks.
pub(crate) fn list(engine: &Engine, permission: &Permission) -> Result<SessionKeyList, Denial> {
    let Some(session) = permission.session() else { return Ok(SessionKeyList { keys: Vec::new() }) };
    engine.transact(|records| {
        let noted = records.load::<SessionKeys>(RecordId(session))?;
        let ids = noted.map(|noted| noted.content.keys).unwrap_or_default();
        let keys = ids.into_iter().map(|id| Ok(keys::find_anybodys(records, id)?.content.info));
        Ok(SessionKeyList { keys: keys.collect::<Result<_, Denial>>()? })
    })
}

/// Will delete all keys of a session. Returns how many.
pub(crate) fn end(records: &mut Transaction<'_>, session: RecordId) -> Result<u64, Denial> {
    let Some(Opened { id, version, content }) = records.load::<SessionKeys>(session)? else { return Ok(0) };
    let mut ended = 0;
    for key in content.keys {
        let key = keys::find_anybodys(records, key)?;
        keys::delete_halves(records, &key);
        ended += 1;
    }
    records.delete::<SessionKeys>(id, version);
    Ok(ended)
}

/// The same if the session is over as the store has it: what an engine remembers, or could not read for a moment, destroys
/// no key.
pub(crate) fn end_if_over(
    records: &mut Transaction<'_>,
    session: RecordId,
    now: UnixMillis,
) -> Result<u64, Denial> {
    let Some(Opened { content, .. }) = records.load::<SessionKeys>(session)? else { return Ok(0) };
    let over = now >= content.expires_at || records.load::<Revocation>(session)?.is_some() || {
        let user = records.load::<User>(user_record(content.user))?;
        user.is_none_or(|user| user.content.credential != content.credential)
    };
    if over { end(records, session) } else { Ok(0) }
}

impl SessionKeys {
    /// Whether the session is over as far as this engine knows: expired, logged out, its user deleted or given other credentials.
    pub(crate) fn seem_over(&self, session: [u8; 16], snapshot: &Snapshot, now: UnixMillis) -> bool {
        let is_users = |user: &crate::snapshot::KnownUser| user.credential == self.credential;
        now >= self.expires_at
            || snapshot.revoked.contains_key(&session)
            || !snapshot.users.get(&self.user).is_some_and(is_users)
    }
}
