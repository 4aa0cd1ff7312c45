//! Vouches for this replica's audit log: signs checkpoints of it, anchors them in the store, and holds the log against its
//! anchor before anything is done. `docs/audit-log.md` says what that shows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use aws_lc_rs::rand;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use keycore_audit::{AuditError, Entry, Past, Subject};
use keycore_store::{Kind, RecordId, Store};
use keycore_wire::{AuditAnchor, AuditAnchorList, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::denial::Denial;
use crate::engine::Engine;
use crate::error::FollowError;
use crate::follow::with_current_keys;
use crate::ledger::load;
use crate::options::Now;
use crate::policy::Permission;
use crate::records::{Content, ONLY};
use crate::seal::SealingKeys;

/// The key that signs checkpoints, and that no request can reach. One for the cluster, made when first needed.
#[derive(Serialize, Deserialize)]
struct AuditKey {
    /// Seed of an Ed25519 key (RFC 8032).
    seed: Secret,
}

impl Content for AuditKey {
    const KIND: Kind = Kind(40);
}

/// The newest checkpoint of a replica; the record's id is the replica's number.
impl Content for AuditAnchor {
    const KIND: Kind = Kind(41);
}

/// That the log which was anchored so is elsewhere, since the anchor came with a backup; the record's id is the replica's number.
/// It is of no effect for any later anchor, which is of a log here, and goes with the first one.
#[derive(Serialize, Deserialize)]
pub(crate) struct AnchorElsewhere {
    /// The anchor's head, which no other log has.
    pub(crate) head: [u8; 32],
}

impl Content for AnchorElsewhere {
    const KIND: Kind = Kind(56);
}

/// Most replicas whose anchors are told.
const MAX_ANCHORS: usize = 1024;

/// What an engine vouches with, and how far it has.
#[derive(Default)]
pub(crate) struct Notary {
    key: OnceLock<Ed25519KeyPair>,
    /// The log was held against its anchor in this life.
    compared: AtomicBool,
    /// It is another one.
    lost: OnceLock<RolledBack>,
    /// Signed and not anchored yet.
    pending: Mutex<Option<AuditAnchor>>,
}

/// The audit log can't be vouched for. Nothing is lost: the next call tries again.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// The log can't be written or read.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// The store can't be used, or what is in it.
    #[error("{0}")]
    Store(String),
    /// The log is not the one that was anchored.
    #[error(transparent)]
    RolledBack(#[from] RolledBack),
}

impl From<Denial> for NotaryError {
    fn from(denial: Denial) -> Self {
        Self::Store(if denial.reason.is_empty() { denial.refusal.detail } else { denial.reason.into_owned() })
    }
}

/// A log that does not lead through its anchor: cut off, put back to an earlier state, or written anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the audit log of replica {replica} is not the one that the store knows: it {found}, and was anchored at record \
     {anchored}. It was cut off, put back or replaced, or the store is of another state than the log. Keep its directory as \
     evidence. To go on with the log as it is, set accept-audit-loss = [\"{replica}@{anchored}\"] in the engine's \
     configuration: the loss is then recorded"
)]
pub struct RolledBack {
    /// Whose log.
    pub replica: u16,
    /// Last record that the anchor covers.
    pub anchored: u64,
    /// What the log has instead.
    found: String,
}

impl Engine {
    /// Records that this replica began or ended, and on whose behalf nothing else is.
    pub fn note_life(&self, event: LifeEvent, now: Now) -> Result<(), AuditError> {
        let detail = format!("hsm-engine {}, process {}", env!("CARGO_PKG_VERSION"), self.options.pid);
        self.journal.append_own(&own_entry(event.name(), &detail, now))
    }

    /// Signs where the audit log stands, unless nothing came since, and anchors it in the store; to be called about every second by a
    /// thread that may wait for the store, and at the end. Costs a write and an fdatasync of the log, and a commit. Then old segments
    /// go that [`Options::audit_retention`](crate::Options::audit_retention) does not keep.
    ///
    /// # Errors
    ///
    /// [`NotaryError`]; after [`NotaryError::RolledBack`] everything that would be recorded is refused.
    pub fn checkpoint_audit(&self, now: Now) -> Result<(), NotaryError> {
        let Ok(sealing) = self.sealing() else { return Ok(()) };
        let cluster = sealing.cluster();
        if let Some(lost) = self.lost_log() {
            return Err(lost.clone().into());
        }
        let mut pending = self.notary.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.journal.unsigned() > 0 {
            let key = self.audit_key()?;
            let place = (cluster, self.options.replica);
            let sign = |statement: &[u8]| Some(key.try_sign(statement).ok()?.as_ref().to_vec());
            *pending = Some(self.journal.checkpoint(place, micros(now), sign)?);
        }
        // The log is on the disk up to there: a crash makes no log shorter than its anchor.
        if let Some(anchor) = &*pending {
            let id = anchor_id(self.options.replica);
            let anchored = anchor.sequence;
            self.transact(|records| {
                let before = records.load::<AuditAnchor>(id)?.map(|opened| opened.version);
                // That was of the anchor which this one replaces.
                if let Some(elsewhere) = records.load::<AnchorElsewhere>(id)? {
                    records.delete::<AnchorElsewhere>(id, elsewhere.version);
                }
                records.put(id, before, anchor, Vec::new(), None)
            })?;
            *pending = None;
            self.journal.prune(&self.options.audit_retention, micros(now), anchored)?;
        }
        Ok(())
    }

    /// Holds the log against its anchor, with the keys that requests will be served with once this is done. A log that is not
    /// the one that was anchored takes no record any more: [`Engine::lost_log`]. A loss that the operator accepted is recorded.
    ///
    /// `store` must be the engine's own, locked.
    pub(crate) fn compare_with_anchor(
        &self,
        store: &mut dyn Store,
        keys: &SealingKeys,
        now: Now,
    ) -> Result<(), FollowError> {
        if self.notary.compared.load(Ordering::Acquire) {
            return Ok(());
        }
        let (replica, id) = (self.options.replica, anchor_id(self.options.replica));
        let (anchor, elsewhere) = with_current_keys(store, keys, |store| {
            Ok((load::<AuditAnchor>(store, keys, id)?, load::<AnchorElsewhere>(store, keys, id)?))
        })?;
        if let Some(anchor) = anchor.map(|opened| opened.content)
            && let Some(found) = self.contradiction(&anchor)?
        {
            // That of a log which is not expected here.
            let elsewhere = elsewhere.is_some_and(|elsewhere| elsewhere.content.head == anchor.head);
            let lost = RolledBack { replica, anchored: anchor.sequence, found };
            if !elsewhere && !self.options.accepted_audit_losses.contains(&(replica, anchor.sequence)) {
                self.journal.close(lost.to_string());
                let _the_first_one_stays = self.notary.lost.set(lost);
                return Ok(());
            }
            let head = keycore_audit::Head(anchor.head);
            let (operation, why) = match elsewhere {
                true => ("AuditRestored", "restored from a backup, without the log that goes with it"),
                false => ("AuditLoss", "accepted"),
            };
            let (found, anchored) = (lost.found, lost.anchored);
            let detail = format!("{why}: the log {found}, and was anchored at {anchored} with head {head}");
            self.journal.append_own(&own_entry(operation, &detail, now))?;
        }
        self.notary.compared.store(true, Ordering::Release);
        Ok(())
    }

    /// How the log differs from what was anchored, if it does, and nobody accepted that.
    pub(crate) fn lost_log(&self) -> Option<&RolledBack> {
        self.notary.lost.get()
    }

    /// What the log has instead of what it was anchored with, if anything.
    fn contradiction(&self, anchor: &AuditAnchor) -> Result<Option<String>, AuditError> {
        Ok(match self.journal.head_at(anchor.sequence)? {
            Past::Was(head) if head.0 == anchor.head => None,
            Past::Was(_) => Some("has another record there".to_owned()),
            Past::Future => Some(format!("ends at record {}", self.journal.records())),
            // Older than what is kept: what is there begins with a checkpoint, which the verifier checks.
            Past::Unknown => None,
        })
    }

    fn audit_key(&self) -> Result<&Ed25519KeyPair, Denial> {
        if let Some(key) = self.notary.key.get() {
            return Ok(key);
        }
        let seed = self.transact(|records| {
            if let Some(made) = records.load::<AuditKey>(ONLY)? {
                return Ok(made.content.seed);
            }
            let mut seed = Zeroizing::new([0; 32]);
            rand::fill(&mut *seed)?;
            let key = AuditKey { seed: Secret::new(seed.to_vec()) };
            records.put(ONLY, None, &key, Vec::new(), None)?;
            Ok(key.seed)
        })?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .map_err(|_| Denial::internal("the audit key can't be used"))?;
        Ok(self.notary.key.get_or_init(|| pair))
    }
}

/// The audit key's public half and every replica's newest checkpoint.
pub(crate) fn anchors(engine: &Engine, _permission: &Permission) -> Result<AuditAnchorList, Denial> {
    let cluster = engine.sealing()?.cluster();
    let mut public_key = [0; 32];
    public_key.copy_from_slice(engine.audit_key()?.public_key().as_ref());
    let anchors = engine.transact(|records| {
        let found = records.scan::<AuditAnchor>(None, None, MAX_ANCHORS)?;
        Ok(found.into_iter().map(|opened| opened.content).collect())
    })?;
    Ok(AuditAnchorList { cluster, public_key, anchors })
}

/// What a replica records of its own life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeEvent {
    /// It began to serve.
    Started,
    /// It ends in order.
    Stopped,
}

impl LifeEvent {
    fn name(self) -> &'static str {
        match self {
            Self::Started => "EngineStart",
            Self::Stopped => "EngineStop",
        }
    }
}

pub(crate) fn own_entry<'a>(operation: &'a str, detail: &'a str, now: Now) -> Entry<'a> {
    Entry::by_engine(micros(now), operation, Subject::None, detail)
}

fn micros(now: Now) -> u64 {
    now.wall.0.saturating_mul(1000)
}

/// Sorted by replica, as the store lists them.
fn anchor_id(replica: u16) -> RecordId {
    let mut id = [0; 16];
    id[14..].copy_from_slice(&replica.to_be_bytes());
    RecordId(id)
}
