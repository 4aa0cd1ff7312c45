//! Changing to custodians, in two steps: their shares are made and handed out while the old method holds, and whoever shows that the
//! shares are kept ends it. A crash at any moment leaves what unsealed before, or shares that somebody has.
//!
//! What is kept in between holds no secret: the wrapping key comes from the shares that are shown.

use core::time::Duration;

use keycore_backup::{Share, SharePurpose};
use keycore_store::Kind;
use keycore_wire::{
    ClusterStatus, ConfirmCustodians, PrepareCustodians, PreparedCustodians, UnixMillis, UnsealMethod,
};
use serde::{Deserialize, Serialize};

use super::change::wrap_by;
use super::{new_method, wrong};
use crate::cluster::PreparedMethod;
use crate::denial::Denial;
use crate::engine::Engine;
use crate::ledger::Transaction;
use crate::lifecycle;
use crate::options::Now;
use crate::policy::Permission;
use crate::records::{Content, ONLY};
use crate::users;

/// How long shares can be confirmed: time to reach custodians who are not here.
const LASTS: Duration = Duration::from_hours(24);

/// Shares that were made and unseal nothing yet.
#[derive(Serialize, Deserialize)]
pub(crate) struct PreparedShares {
    made_at: UnixMillis,
    method: PreparedMethod,
}

impl Content for PreparedShares {
    const KIND: Kind = Kind(50);
}

impl PreparedShares {
    fn expires_at(&self) -> UnixMillis {
        self.made_at.plus(LASTS)
    }
}

/// Makes shares, in the place of those that were prepared before.
pub(crate) fn prepare(
    engine: &Engine,
    permission: &Permission,
    request: PrepareCustodians,
    now: Now,
) -> Result<PreparedCustodians, Denial> {
    engine.self_tests.generator_is_healthy()?;
    let PrepareCustodians { needed, of } = request;
    let mut made = new_method(UnsealMethod::Custodians { needed, of }, None, engine.options.unseal_cost)?;
    let method = made.prepared().map_err(|error| Denial::internal(error.to_string()))?;
    let prepared = PreparedShares { made_at: now.wall, method };
    let admin = permission.actor()?;
    engine.transact_as(permission, |records| {
        users::acting(records, admin)?;
        let before = records.load::<PreparedShares>(ONLY)?.map(|found| found.version);
        records.put(ONLY, before, &prepared, Vec::new(), None)
    })?;
    Ok(PreparedCustodians { shares: core::mem::take(&mut made.shares), expires_at: prepared.expires_at() })
}

/// Wraps the ring by what these shares make, if they were prepared.
pub(crate) fn confirm(
    engine: &Engine,
    permission: &Permission,
    request: &ConfirmCustodians,
    now: Now,
) -> Result<ClusterStatus, Denial> {
    let shares = parse(&request.shares)?;
    let [first, ..] = &shares[..] else { return Err(Denial::malformed("there is no share")) };
    let split = first.of();
    // Of more than are needed, each has its say.
    let secret = Share::combine(&shares).map_err(|error| wrong(error.to_string()))?;
    let admin = permission.actor()?;
    let internal = |error: crate::cluster::UnsealError| Denial::internal(error.to_string());
    let forged = || wrong("one of the shares is forged");
    engine.transact_as(permission, |records| {
        users::acting(records, admin)?;
        let wrapped = records.cluster()?;
        if wrapped.split() == Some(split) {
            // It is done already, and the answer was lost.
            return if wrapped.is_opened_by(&*secret).map_err(internal)? { Ok(()) } else { Err(forged()) };
        }
        let prepared = records.load::<PreparedShares>(ONLY)?;
        let prepared = prepared.filter(|found| {
            found.content.method.split() == Some(split) && now.wall < found.content.expires_at()
        });
        let Some(prepared) = prepared else {
            return Err(Denial::cluster_state(
                "these shares can't be confirmed any more: they were for a day, others were prepared since, or another \
                 method was chosen; begin again",
            ));
        };
        let method = prepared.content.method.complete(&secret).map_err(internal)?.ok_or_else(forged)?;
        if shares.iter().any(|share| !method.has_share(share.index())) {
            return Err(forged());
        }
        records.delete::<PreparedShares>(ONLY, prepared.version);
        wrap_by(records, &method, now)
    })?;
    lifecycle::status(engine, permission)
}

fn parse(shares: &[keycore_wire::Secret]) -> Result<Vec<Share>, Denial> {
    let parsed = shares.iter().map(|share| match share.expose() {
        text if text.len() <= Share::MAX_TEXT => Share::parse(SharePurpose::Unseal, text),
        _ => Err(keycore_backup::ShareError::Unreadable(SharePurpose::Unseal)),
    });
    parsed.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))
}

/// Will forget shares that were prepared, if any were.
pub(super) fn forget(records: &mut Transaction<'_>) -> Result<(), Denial> {
    if let Some(prepared) = records.load::<PreparedShares>(ONLY)? {
        records.delete::<PreparedShares>(ONLY, prepared.version);
    }
    Ok(())
}

impl Engine {
    /// Takes away what can't be confirmed any more.
    pub(crate) fn end_preparation(&self, now: Now) -> Result<(), Denial> {
        self.transact(|records| match records.load::<PreparedShares>(ONLY)? {
            Some(found) if now.wall >= found.content.expires_at() => forget(records),
            _ => Ok(()),
        })
    }
}

/// So many custodians, in words.
pub(crate) fn custodians_in_words(needed: u8, of: u8) -> String {
    format!("{needed} of {of} custodians")
}
