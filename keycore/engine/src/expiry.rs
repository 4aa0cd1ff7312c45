//! Deletes the keys whose time is over, and all keys of a user.

use keycore_audit::{Entry, Subject};
use keycore_store::RecordId;
use keycore_wire::{KeyId, KeyInfo, ZeroizeKeys, Zeroized};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::journal;
use crate::keys;
use crate::options::Now;
use crate::policy::Permission;
use crate::records::{PublicKeyPart, Retirement, SessionKeys};
use crate::seal::TagOf;
use crate::session::Caller;
use crate::{session_keys, users};

/// Keys that one transaction deletes at most, and ended things that one look finds.
const AT_ONCE: usize = 64;

/// The engine itself, in the audit log.
const ENGINE: Caller = Caller { connection: 0, peer: None, session: None };

impl Engine {
    /// Deletes rotated keys whose grace period is over, and the keys of sessions that ended; to be called every few
    /// seconds. Costs four empty looks if there is nothing. Such keys can't be used any more, whether or not this was done:
    /// a session that ended is refused, and a rotated key does little until then.
    ///
    /// # Errors
    ///
    /// Why something was not deleted, for the engine's log; the next call tries again.
    pub fn tidy(&self, now: Now) -> Result<(), String> {
        if self.sealing.get().is_none() || self.left_behind().is_some() || self.journal.ready().is_err() {
            return Ok(());
        }
        self.end_handover(now)
            .and_then(|()| self.end_preparation(now))
            .and_then(|()| self.delete_what_ended(now))
            .map_err(|denial| format!("{} {}", denial.refusal, denial.reason))
    }

    fn delete_what_ended(&self, now: Now) -> Result<(), Denial> {
        let retired = self.transact(|records| records.scan::<Retirement>(None, None, AT_ONCE))?;
        for key in retired.into_iter().filter(|key| now.wall >= key.content.until) {
            let deleted = self.transact(|records| {
                let Some(found) = keys::find_if_there(records, KeyId(key.id.0))? else { return Ok(None) };
                keys::remove(records, found).map(Some)
            })?;
            if let Some(info) = deleted {
                self.tell(now, &info, "its grace period after a rotation ended")?;
            }
        }
        let mut after = None;
        loop {
            let sessions = self.transact(|records| records.scan::<SessionKeys>(None, after, AT_ONCE))?;
            for session in &sessions {
                if session.content.seem_over(session.id.0, &self.snapshot(), now.wall) {
                    self.end_session_keys(session.id, now)?;
                }
            }
            match sessions.last() {
                Some(last) if sessions.len() == AT_ONCE => after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    fn end_session_keys(&self, session: RecordId, now: Now) -> Result<(), Denial> {
        let ended = self.transact(|records| session_keys::end_if_over(records, session, now.wall))?;
        if ended == 0 {
            return Ok(());
        }
        let detail = format!("{ended} keys of a session that ended");
        self.journal.append(&journal::entry("DeleteKey", &ENGINE, now, None, &detail))
    }

    fn tell(&self, now: Now, info: &KeyInfo, why: &str) -> Result<(), Denial> {
        let subject = Subject::Key { id: Some(info.id), label: info.label.as_str() };
        self.journal.append(&Entry { subject, ..journal::entry("DeleteKey", &ENGINE, now, None, why) })
    }
}

/// Deletes all keys of a user, as an admin, a page at a time: what an interrupted run leaves, the next one deletes.
pub(crate) fn zeroize_user(
    engine: &Engine,
    permission: &Permission,
    request: &ZeroizeKeys,
) -> Result<Zeroized, Denial> {
    let admin = permission.actor()?;
    engine.transact(|records| {
        users::acting(records, admin)?;
        permission.spend(records)
    })?;
    let mut keys_deleted = 0;
    loop {
        let deleted = engine.transact(|records| {
            users::acting(records, admin)?;
            let user = users::find(records, &request.user)?.ok_or_else(Denial::no_user)?;
            let group = records.keys().group_tag(TagOf::KeyOwner, &user.id.0);
            let page = records.scan::<PublicKeyPart>(Some(&group), None, AT_ONCE)?;
            let found = page.len() as u64;
            for key in page {
                keys::remove(records, key)?;
            }
            Ok((found, user.id))
        })?;
        keys_deleted += deleted.0;
        if deleted.0 < AT_ONCE as u64 {
            return Ok(Zeroized { keys: keys_deleted + zeroize_sessions(engine, deleted.1)? });
        }
    }
}

fn zeroize_sessions(engine: &Engine, user: RecordId) -> Result<u64, Denial> {
    let (mut after, mut deleted) = (None, 0);
    loop {
        let sessions = engine.transact(|records| records.scan::<SessionKeys>(None, after, AT_ONCE))?;
        for session in sessions.iter().filter(|session| session.content.user.0 == user.0) {
            deleted += engine.transact(|records| session_keys::end(records, session.id))?;
        }
        match sessions.last() {
            Some(last) if sessions.len() == AT_ONCE => after = Some(last.id),
            _ => return Ok(deleted),
        }
    }
}
