//! Changing what unseals the cluster, while it goes on. To custodians: `custodians.rs`.

use keycore_secmem::SecretBytes;
use keycore_wire::{ChangeUnseal, ClusterStatus, MAX_UNSEAL_PART, NewUnseal, RefusalCode, UnsealMethod};
use zeroize::Zeroizing;

use super::custodians::{self, custodians_in_words};
use super::{new_method, unfit};
use crate::cluster::NewMethod;
use crate::denial::Denial;
use crate::engine::Engine;
use crate::handover::Handover;
use crate::ledger::Transaction;
use crate::lifecycle;
use crate::options::Now;
use crate::policy::Permission;
use crate::records::ONLY;
use crate::unseal_secret::UnsealSecret;
use crate::users;

/// Wraps the keyring anew. Replicas that run are handed the new wrapping key; those that start need the new secret.
pub(crate) fn change(
    engine: &Engine,
    permission: &Permission,
    request: &ChangeUnseal,
    now: Now,
) -> Result<NewUnseal, Denial> {
    engine.self_tests.generator_is_healthy()?;
    let secret = match &request.secret {
        None => None,
        Some(given) if given.expose().len() > MAX_UNSEAL_PART => {
            return Err(unfit(&format!("an unseal secret has at most {MAX_UNSEAL_PART} bytes")));
        }
        Some(given) => {
            let bytes = SecretBytes::copy_from(&mut Zeroizing::new(given.expose().to_vec()))
                .map_err(|error| Denial::internal(format!("no locked memory: {error}")))?;
            Some(UnsealSecret::new(bytes).map_err(|error| unfit(&error.to_string()))?)
        }
    };
    if matches!(request.method, UnsealMethod::Custodians { .. }) {
        return Err(Denial::malformed(
            "custodians are prepared, and confirmed once their shares are kept: use the hsm of this engine's version",
        ));
    }
    if secret.is_none() {
        return Err(Denial::malformed("the methods secret and passphrase come with a secret"));
    }
    let method = new_method(request.method, secret.as_ref(), engine.options.unseal_cost)?;
    let admin = permission.actor()?;
    // Once the old method is gone, whoever asked must learn it: what can fail, fails here.
    let before = lifecycle::status(engine, permission)?;
    engine.transact_as(permission, |records| {
        users::acting(records, admin)?;
        custodians::forget(records)?;
        wrap_by(records, &method, now)
    })?;
    let status = lifecycle::status(engine, permission).unwrap_or_else(|_| changed(before, request.method));
    Ok(NewUnseal { status: Box::new(status), shares: Vec::new() })
}

/// Will wrap the ring by another method, and hand the wrapping key to the replicas that run.
pub(super) fn wrap_by(records: &mut Transaction<'_>, method: &NewMethod, now: Now) -> Result<(), Denial> {
    check_no_handover(records)?;
    let ring = records.keys().ring();
    let old = ring.wrapping.as_ref().ok_or_else(|| Denial::internal("the ring was never wrapped"))?;
    let new = method.wrapping(old.version);
    let handover =
        Handover::new(ring.cluster(), old, &new, now).map_err(|error| Denial::internal(error.to_string()))?;
    records.put(ONLY, None, &handover, Vec::new(), None)?;
    records.put_cluster(|version| method.wrap(&ring, version))
}

/// The status from before, with the method that was changed since.
fn changed(mut before: ClusterStatus, method: UnsealMethod) -> ClusterStatus {
    if let Some(unseal) = &mut before.unseal {
        unseal.method = method;
    }
    before
}

/// A change so soon behind one of the method or of the ring would leave behind who has not followed that.
fn check_no_handover(records: &mut Transaction<'_>) -> Result<(), Denial> {
    match records.load::<Handover>(ONLY)? {
        None => Ok(()),
        Some(found) => Err(being_told(&found.content)),
    }
}

/// Why the cluster's record does not change now.
pub(crate) fn being_told(handover: &Handover) -> Denial {
    let what = if handover.changes_the_method() { "unseal method" } else { "cluster key" };
    let detail = format!("replicas are being told of a new {what}; try again in half a minute");
    Denial::new(RefusalCode::Overloaded, detail)
}

/// A method in words.
pub(crate) fn in_words(method: UnsealMethod) -> String {
    match method {
        UnsealMethod::Custodians { needed, of } => custodians_in_words(needed, of),
        other => other.name().to_owned(),
    }
}
