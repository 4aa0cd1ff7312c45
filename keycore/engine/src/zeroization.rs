//! The end of a cluster.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use keycore_wire::{RefusalCode, Request, ZeroizeCluster};

use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::policy::Permission;
use crate::snapshot::Snapshot;
use crate::users;

/// Empties the store, and forgets what this engine knows; its siblings do when they notice.
pub(crate) fn zeroize_cluster(
    engine: &Engine,
    permission: &Permission,
    request: ZeroizeCluster,
) -> Result<(), Denial> {
    if engine.sealing()?.cluster() != request.cluster {
        return Err(Denial::new(RefusalCode::NotFound, "this is another cluster"));
    }
    let admin = permission.actor()?;
    engine.transact(|records| {
        users::acting(records, admin)?;
        permission.spend(records)
    })?;
    locked(&engine.store).erase()?;
    engine.forget_everything();
    Ok(())
}

impl Engine {
    /// Whether the cluster was destroyed since this engine opened it. The process should then end, so that its memory goes,
    /// too, and be started anew; until then everything but hellos and pings is refused.
    pub fn is_zeroized(&self) -> bool {
        self.zeroized.load(Ordering::Acquire)
    }

    /// Refuses what a destroyed cluster can't do; an engine that was started anew can.
    pub(crate) fn check_not_zeroized(&self, request: &Request<'_>) -> Result<(), Denial> {
        if self.is_zeroized() && !matches!(request, Request::Hello(_) | Request::Ping(_)) {
            return Err(Denial::zeroized());
        }
        Ok(())
    }

    /// The cluster is no more.
    pub(crate) fn forget_everything(&self) {
        self.zeroized.store(true, Ordering::Release);
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        *snapshot = Snapshot { revision: snapshot.revision, ..Snapshot::default() };
        drop(snapshot);
        locked(&self.keys).clear();
        self.take_identity(None);
    }
}
