//! Rotating the cluster key: a new generation seals from the first moment on, what older ones sealed is sealed anew in the
//! background, and then they are dropped.
//!
//! The ring with both generations is committed first. Every transaction begins by looking at the ring (`ledger.rs`) and is a
//! compare-and-swap, so from then on nobody writes with the old generation. One replica at a time walks through all records,
//! batch by batch, each of which is a commit that also notes how far it got: a killed one loses a batch, and another goes on.
//! A walk that found nothing old ends it: the ring loses the old generation in the same commit as the note.

use core::time::Duration;

use keycore_audit::{Entry, Outcome};
use keycore_store::{Kind, Record, RecordId};
use keycore_wire::{ClusterStatus, Resealing, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::handover::Handover;
use crate::keyring::new_key;
use crate::ledger::Transaction;
use crate::lifecycle;
use crate::notary::own_entry;
use crate::options::Now;
use crate::policy::Permission;
use crate::records::{CLUSTER, Content, ONLY, PublicKeyPart, SecretKeyPart};
use crate::unseal::being_told;
use crate::users;

/// Records that are sealed anew in one commit, which others wait for: some ten milliseconds.
const BATCH: usize = 128;

/// Records that are looked at in one commit when most likely none has to be sealed anew.
const LOOK: usize = 1024;

/// After so long without a batch, another replica goes on.
const CLAIM_LASTS: Duration = Duration::from_secs(10);

/// How far the rotation is that goes on.
#[derive(Serialize, Deserialize)]
pub(crate) struct Rotation {
    /// The last record that was looked at in this walk.
    after: Option<(u8, [u8; 16])>,
    /// Walks that were finished.
    walks: u32,
    /// Whether this walk found something to seal anew.
    found: bool,
    /// Records of the first walk that are done, and that there were at the beginning.
    done: u64,
    total: u64,
    /// Which replica is at it, and since when.
    claim: Option<(u16, UnixMillis)>,
}

impl Content for Rotation {
    const KIND: Kind = Kind(49);
}

impl Rotation {
    fn new(total: u64) -> Self {
        Self { after: None, walks: 0, found: false, done: 0, total, claim: None }
    }

    /// For cluster information.
    pub(crate) fn told(&self) -> Resealing {
        let done = if self.walks > 0 { self.total } else { self.done.min(self.total) };
        Resealing { done, total: self.total }
    }

    fn is_anothers(&self, replica: u16, now: Now) -> bool {
        self.claim.is_some_and(|(claimed, at)| {
            claimed != replica
                && now.wall.0.abs_diff(at.0) < u64::try_from(CLAIM_LASTS.as_millis()).unwrap_or(u64::MAX)
        })
    }
}

/// What one call of [`Engine::reseal`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resealed {
    /// There is nothing to do, or a sibling does it.
    Idle,
    /// A batch; there is more.
    Batch,
    /// The rotation is complete: the old generation is gone.
    Complete,
}

/// Makes a new generation of the cluster key.
pub(crate) fn rotate(engine: &Engine, permission: &Permission, now: Now) -> Result<ClusterStatus, Denial> {
    engine.self_tests.generator_is_healthy()?;
    let (key, admin) = (new_key()?, permission.actor()?);
    engine.transact_as(permission, |records| {
        users::acting(records, admin)?;
        let earlier = records.load::<Handover>(ONLY)?;
        if let Some(earlier) = earlier.as_ref().filter(|found| found.content.changes_the_method()) {
            return Err(being_told(&earlier.content));
        }
        let ring = records.keys().ring();
        if !ring.is_single() {
            return Err(Denial::cluster_state(
                "the cluster key is being rotated; hsm cluster info shows how far",
            ));
        }
        let next = ring.with_next(&key).map_err(|error| Denial::internal(error.to_string()))?;
        let total = records.total()?;
        records.put(ONLY, None, &Rotation::new(total), Vec::new(), None)?;
        let version = earlier.map(|found| found.version);
        records.put(ONLY, version, &Handover::of_a_generation(now), Vec::new(), None)?;
        put_ring(records, &next)
    })?;
    lifecycle::status(engine, permission)
}

fn put_ring(records: &mut Transaction<'_>, ring: &crate::keyring::Keyring) -> Result<(), Denial> {
    let wrapped = records.cluster()?;
    let wrapping = ring.wrapping.as_ref().ok_or_else(|| Denial::internal("the ring was never wrapped"))?;
    records.put_cluster(|version| wrapped.rewrap(wrapping, ring, version))
}

impl Engine {
    /// Seals a batch of records anew if the cluster key is being rotated; to be called again soon after [`Resealed::Batch`], and
    /// about every second otherwise. Costs nothing while there is no rotation.
    ///
    /// # Errors
    ///
    /// Why the rotation does not go on, for the engine's log: the store fails, or a record in it is damaged. Nothing is lost; the
    /// next call tries again.
    pub fn reseal(&self, now: Now) -> Result<Resealed, String> {
        let Some(keys) = self.sealing.get() else { return Ok(Resealed::Idle) };
        if keys.ring().is_single() || self.left_behind().is_some() || self.journal.ready().is_err() {
            return Ok(Resealed::Idle);
        }
        let replica = self.options.replica;
        let told = |denial: Denial| format!("{} {}", denial.refusal, denial.reason);
        let (resealed, total) = self.transact(|records| step(records, replica, now)).map_err(told)?;
        if resealed == Resealed::Complete {
            let generation = keys.ring().newest().number;
            let detail =
                format!("generation {generation} of the cluster key has sealed all of {total} records");
            let entry = Entry { outcome: Outcome::Done, ..own_entry("ClusterKeyRotated", &detail, now) };
            self.journal.append_and_sync(&entry).map_err(told)?;
        }
        Ok(resealed)
    }

    /// How far the rotation is, if one goes on.
    pub(crate) fn resealing(&self) -> Result<Option<Resealing>, Denial> {
        match self.sealing.get() {
            Some(keys) if !keys.ring().is_single() => {
                self.transact(|records| Ok(records.load::<Rotation>(ONLY)?.map(|found| found.content.told())))
            }
            _ => Ok(None),
        }
    }
}

/// One batch, and how many records the rotation is about.
fn step(records: &mut Transaction<'_>, replica: u16, now: Now) -> Result<(Resealed, u64), Denial> {
    let ring = records.keys().ring();
    if ring.is_single() {
        return Ok((Resealed::Idle, 0));
    }
    let found = records.load::<Rotation>(ONLY)?;
    let version = found.as_ref().map(|found| found.version);
    let mut rotation = match found {
        Some(found) => found.content,
        None => Rotation::new(records.total()?),
    };
    if rotation.is_anothers(replica, now) {
        return Ok((Resealed::Idle, 0));
    }
    let after = rotation.after.map(|(kind, id)| (Kind(kind), RecordId(id)));
    let page = records.walk(after, if rotation.walks == 0 { BATCH } else { LOOK })?;
    if page.is_empty() && !rotation.found && rotation.walks > 0 {
        if let Some(version) = version {
            records.delete::<Rotation>(ONLY, version);
        }
        put_ring(records, &ring.newest_only())?;
        return Ok((Resealed::Complete, rotation.total));
    }
    if page.is_empty() {
        rotation =
            Rotation { after: None, walks: rotation.walks.saturating_add(1), found: false, ..rotation };
    }
    reseal_page(records, &mut rotation, page)?;
    rotation.claim = Some((replica, now.wall));
    records.put(ONLY, version, &rotation, Vec::new(), None)?;
    Ok((Resealed::Batch, rotation.total))
}

fn reseal_page(
    records: &mut Transaction<'_>,
    rotation: &mut Rotation,
    page: Vec<(Kind, Record)>,
) -> Result<(), Denial> {
    let mut resealed = 0;
    for (kind, record) in page {
        // Not sealed itself; written with every batch.
        let is_sealed_anew = kind != CLUSTER && kind != Rotation::KIND && records.reseal(kind, &record)?;
        if is_sealed_anew {
            rotation.found = true;
            resealed += 1;
            if kind == PublicKeyPart::KIND
                && let Some(secret) = records.load_sealed(SecretKeyPart::KIND, record.id)?
            {
                // Both halves of a key are always at one version.
                records.reseal(SecretKeyPart::KIND, &secret)?;
            }
        }
        if rotation.walks == 0 {
            rotation.done += 1;
        }
        rotation.after = Some((kind.0, record.id.0));
        // A later walk that finds something after all does not hold others up for longer.
        if resealed == BATCH {
            break;
        }
    }
    Ok(())
}
