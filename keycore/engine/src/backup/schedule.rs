//! Backups that are made by themselves: by one replica of the cluster, in turn with the others.

use core::time::Duration;

use keycore_audit::{Entry, Outcome};
use keycore_store::Kind;
use keycore_wire::{BackupHealth, BackupInfo, Refusal, UnixMillis};
use serde::{Deserialize, Serialize};

use super::make;
use crate::denial::Denial;
use crate::engine::Engine;
use crate::ledger::Transaction;
use crate::notary::own_entry;
use crate::options::Now;
use crate::records::{Content, ONLY};

/// A replica that has begun and not ended a backup for so long is taken for dead.
const LEASE: Duration = Duration::from_hours(1);

/// How long after a failure it is tried again, at most.
const RETRY: Duration = Duration::from_mins(15);

/// How the cluster's backups go.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct BackupState {
    /// Since when a replica is at it.
    claimed_at: Option<UnixMillis>,
    /// When the last one was made.
    made_at: Option<UnixMillis>,
    /// Its name.
    name: String,
    /// When the last failure was.
    failed_at: Option<UnixMillis>,
    /// Failures since the last one was made.
    failures: u32,
    /// What the last failure was.
    failure: String,
}

impl Content for BackupState {
    const KIND: Kind = Kind(45);
}

impl BackupState {
    /// Whether it is time for the next one, every so often.
    fn is_due(&self, every: Duration, now: UnixMillis) -> bool {
        // A time in the future is of a clock that was wrong.
        let within = |since: Option<UnixMillis>, span: Duration| {
            since.is_some_and(|since| since <= now && now < since.plus(span))
        };
        !within(self.claimed_at, LEASE)
            && !within(self.made_at, every)
            && !within(self.failed_at, RETRY.min(every))
    }
}

impl Engine {
    /// Makes a backup if one is due and no other replica makes it; to be called every few seconds, by a thread that may
    /// be busy for as long as a backup takes. What it did is in the audit log.
    ///
    /// # Errors
    ///
    /// Why there is no backup; it is tried again in a quarter of an hour.
    pub fn backup_if_due(&self, now: Now) -> Result<Option<BackupInfo>, Refusal> {
        let Some(every) = self.backups.plan.as_ref().and_then(|plan| plan.every) else { return Ok(None) };
        if self.sealing.get().is_none() {
            return Ok(None);
        }
        let claimed = self.transact(|records| claim(records, every, now)).map_err(|denial| denial.refusal)?;
        if !claimed {
            return Ok(None);
        }
        let made = self.journal.ready().and_then(|()| make(self, now));
        let noted = note(self, now, &made);
        let audited = self.audit_scheduled(now, &made);
        let info = made.and_then(|info| noted.and(audited).map(|()| info));
        info.map(Some).map_err(|denial| denial.refusal)
    }

    fn audit_scheduled(&self, now: Now, made: &Result<BackupInfo, Denial>) -> Result<(), Denial> {
        let (outcome, detail) = match made {
            Ok(info) => (Outcome::Done, format!("scheduled: {}", told(info))),
            Err(denial) => (Outcome::Refused(denial.refusal.code), failure(denial)),
        };
        self.journal.append_and_sync(&Entry { outcome, ..own_entry("BackupCreate", &detail, now) })
    }
}

/// What the audit log says of a backup: enough to know the file again.
pub(crate) fn told(info: &BackupInfo) -> String {
    format!("{} with {} records, payload SHA-256 {}", info.name, info.content.records, info.payload_sha256)
}

fn claim(records: &mut Transaction<'_>, every: Duration, now: Now) -> Result<bool, Denial> {
    let found = records.load::<BackupState>(ONLY)?;
    let version = found.as_ref().map(|found| found.version);
    let state = found.map(|found| found.content).unwrap_or_default();
    if !state.is_due(every, now.wall) {
        return Ok(false);
    }
    let state = BackupState { claimed_at: Some(now.wall), ..state };
    records.put(ONLY, version, &state, Vec::new(), None)?;
    Ok(true)
}

/// Writes down how a backup went, for all replicas.
pub(super) fn note(engine: &Engine, now: Now, made: &Result<BackupInfo, Denial>) -> Result<(), Denial> {
    if engine.sealing.get().is_none() || engine.backups.plan.is_none() {
        return Ok(());
    }
    engine.transact(|records| {
        let found = records.load::<BackupState>(ONLY)?;
        let version = found.as_ref().map(|found| found.version);
        let before = found.map(|found| found.content).unwrap_or_default();
        let state = match made {
            Ok(info) => {
                BackupState { made_at: Some(now.wall), name: info.name.clone(), ..BackupState::default() }
            }
            Err(denial) => BackupState {
                claimed_at: None,
                failed_at: Some(now.wall),
                failures: before.failures.saturating_add(1),
                failure: failure(denial),
                ..before
            },
        };
        records.put(ONLY, version, &state, Vec::new(), None)
    })
}

fn failure(denial: &Denial) -> String {
    match &*denial.reason {
        "" => denial.refusal.detail.clone(),
        reason => reason.to_owned(),
    }
}

/// How the backups go, once there is something to tell.
pub(crate) fn health(records: &mut Transaction<'_>) -> Result<Option<BackupHealth>, Denial> {
    let Some(found) = records.load::<BackupState>(ONLY)? else { return Ok(None) };
    let BackupState { made_at, name, failures, failure, .. } = found.content;
    Ok(Some(BackupHealth { made_at, name, failures, failure }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_when_the_last_one_is_old_and_nobody_is_at_it() {
        let (every, hour) = (Duration::from_hours(24), 3_600_000);
        let at = |hours: u64| Some(UnixMillis(hours * hour));
        let now = UnixMillis(100 * hour);
        let state = BackupState::default;
        let failed = |minutes_ago: u64| BackupState {
            failed_at: Some(UnixMillis(100 * hour - minutes_ago * 60_000)),
            ..state()
        };
        for (state, due) in [
            (state(), true),
            (BackupState { made_at: at(77), ..state() }, false),
            (BackupState { made_at: at(76), ..state() }, true),
            (BackupState { made_at: at(101), ..state() }, true),
            (BackupState { claimed_at: at(100), ..state() }, false),
            (BackupState { claimed_at: at(99), ..state() }, true),
            (failed(14), false),
            (failed(15), true),
        ] {
            assert_eq!(state.is_due(every, now), due);
        }
    }
}
