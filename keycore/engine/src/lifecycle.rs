//! The cluster's life: uninitialized, initialized, active.

use keycore_store::{Change, CommitError};
use keycore_wire::{ActivateCluster, ClusterState, ClusterStatus, RestoredFrom, Role, UnsealStatus};

use crate::backup::{self, Restored};
use crate::cluster::{self, NewMethod};
use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::error::FollowError;
use crate::ledger::Transaction;
use crate::options::Now;
use crate::password;
use crate::policy::Permission;
use crate::records::{CLUSTER, ONLY, PublicKeyPart, User};
use crate::seal::SealingKeys;
use crate::users;

/// State of the cluster as this engine sees it.
pub(crate) fn status(engine: &Engine, _permission: &Permission) -> Result<ClusterStatus, Denial> {
    let (keys, restored, backups) = match engine.sealing.get() {
        Some(_) => engine.transact(|records| {
            let restored = records.load::<Restored>(ONLY)?.map(|found| found.content);
            Ok((records.count::<PublicKeyPart>(None)?, restored, backup::health(records)?))
        })?,
        None => (0, None, None),
    };
    let unseal = engine.unseal_status()?;
    let state = engine.cluster_state();
    // Last: whoever holds it must not wait for the store, whose holder may wait for it.
    let snapshot = engine.snapshot();
    Ok(ClusterStatus {
        cluster: engine.cluster(),
        state,
        replica: engine.options.replica,
        pid: engine.options.pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: engine.started_at,
        revision: snapshot.revision.0,
        users: u32::try_from(snapshot.users.len()).unwrap_or(u32::MAX),
        keys,
        failed_self_test: engine.failed_self_test().map(str::to_owned),
        restored: restored.map(|Restored { revision, made_at, restored_at, .. }| {
            Box::new(RestoredFrom { revision, made_at, restored_at })
        }),
        backups: backups.map(Box::new),
        unseal: unseal.map(Box::new),
        zone: engine.options.zone.clone(),
        connections: engine.open_connections(),
        sessions: engine.logged_in(),
        certificate: engine.cluster_identity().map(|identity| Box::new(identity.status().clone())),
    })
}

/// Makes the cluster key, wrapped by the secret of the configuration, which is stretched unless it is a key.
pub(crate) fn initialize(
    engine: &Engine,
    permission: &Permission,
    now: Now,
) -> Result<ClusterStatus, Denial> {
    if locked(&engine.store).load(CLUSTER, ONLY)?.is_some() {
        adopt(engine, &mut **locked(&engine.store), now)?;
        return Err(Denial::cluster_state("the cluster is initialized already"));
    }
    let secret = engine.unsealing.secret()?;
    let method = NewMethod::suitable(secret, engine.options.unseal_cost)
        .map_err(|error| Denial::internal(format!("no cluster key: {error}")))?;
    initialize_by(engine, permission, &method, now)
}

/// Makes the cluster key. Of several replicas that try, one does it; the others find it done.
pub(crate) fn initialize_by(
    engine: &Engine,
    permission: &Permission,
    method: &NewMethod,
    now: Now,
) -> Result<ClusterStatus, Denial> {
    engine.self_tests.generator_is_healthy()?;
    // Once the key is there, nothing may keep the shares from whoever asked: what can fail, fails here.
    let before = status(engine, permission)?;
    let done_before = || Denial::cluster_state("the cluster is initialized already");
    let mut store = locked(&engine.store);
    loop {
        let base = store.revision()?;
        if store.load(CLUSTER, ONLY)?.is_some() {
            adopt(engine, &mut **store, now)?;
            return Err(done_before());
        }
        let (sealed, ring) = cluster::new_ring()
            .and_then(|ring| {
                let sealed = method.wrap(&ring, base.next())?;
                Ok((sealed, ring.wrapped(method.wrapping(base.next()))))
            })
            .map_err(|error| Denial::internal(format!("no cluster key: {error}")))?;
        let change =
            Change::Put { kind: CLUSTER, id: ONLY, expect: None, sealed, index: Vec::new(), group: None };
        match store.commit(base, &[change]) {
            Ok(revision) => {
                if engine.sealing.set(SealingKeys::new(ring)).is_err() {
                    return Err(Denial::internal("the store was emptied under a running engine"));
                }
                engine.note_own(revision);
                break;
            }
            Err(CommitError::Conflict) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(error) => return Err(Denial::internal(error.to_string())),
        }
    }
    drop(store);
    Ok(status(engine, permission).unwrap_or_else(|_| initialized(engine, before, method)))
}

/// The status from before, with the cluster that there is since.
fn initialized(engine: &Engine, before: ClusterStatus, method: &NewMethod) -> ClusterStatus {
    let unseal = UnsealStatus {
        method: method.method(),
        shares_given: 0,
        generation: engine.sealing.get().map(|keys| keys.ring().newest().number),
        resealing: None,
    };
    let (cluster, state) = (engine.cluster(), engine.cluster_state());
    ClusterStatus { cluster, state, unseal: Some(Box::new(unseal)), ..before }
}

/// Makes the first admin.
pub(crate) fn activate(
    engine: &Engine,
    permission: &Permission,
    request: &ActivateCluster,
    now: Now,
) -> Result<ClusterStatus, Denial> {
    if engine.sealing.get().is_none() {
        // A sibling may have initialized it a moment ago.
        adopt(engine, &mut **locked(&engine.store), now)?;
    }
    // Looked at before the password is hashed, and again when it counts.
    engine.transact(|records| check_inactive(engine, records))?;
    let id = users::new_id()?;
    let mut hash = Some(password::hash(request.password.expose(), engine.options.password_cost)?);
    engine.transact(|records| {
        check_inactive(engine, records)?;
        let hash = match hash.take() {
            Some(hash) => hash,
            None => password::hash(request.password.expose(), engine.options.password_cost)?,
        };
        let admin = User { password: Some(hash), ..User::new(request.admin.clone(), Role::Admin, now) };
        users::put(records, id, None, &admin)
    })?;
    status(engine, permission)
}

/// Nobody may become an admin of a cluster that has users, or keys of users. The store's counts are not sealed, so the
/// records themselves are asked for, and what this engine remembers of them.
pub(crate) fn check_inactive(engine: &Engine, records: &mut Transaction<'_>) -> Result<(), Denial> {
    if engine.cluster_state() == ClusterState::Active
        || !records.scan::<User>(None, None, 1)?.is_empty()
        || !records.scan::<PublicKeyPart>(None, None, 1)?.is_empty()
    {
        return Err(Denial::cluster_state("the cluster is active already; an admin makes more users"));
    }
    Ok(())
}

/// Opens what a sibling initialized. That the log can take records was asked before it was held against the anchor that there
/// is now.
fn adopt(engine: &Engine, store: &mut dyn keycore_store::Store, now: Now) -> Result<(), Denial> {
    engine.adopt_cluster(store, now).map_err(|error| match error {
        FollowError::Store(error) => Denial::store(&error),
        other => Denial::internal(other.to_string()),
    })?;
    engine.journal.ready()
}
