//! Whether the approvals that keys ask for can be had: when a key is made, and before somebody who is needed goes.
//!
//! Counted as if nobody approved what he proposes, whatever the cluster's policy is: so turning self-approval off locks no key.

use keycore_store::RecordId;
use keycore_wire::{KeyId, KeyInfo, RefusalCode, Role, UserId};

use crate::denial::Denial;
use crate::key_sharing::pair_record;
use crate::keys;
use crate::ledger::{Opened, Transaction};
use crate::records::{KeyMember, PublicKeyPart, User};
use crate::seal::TagOf;
use crate::snapshot::user_record;

/// Members that one look at a user's guarded keys reads.
const PAGE: usize = 64;

/// Somebody whose approvals are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The user may no longer use the key.
    User(UserId),
    /// The user has no registered key any more.
    ApprovalKey(UserId),
}

/// Whether what a key asks for can be had, from its owner and `key.shares`, after a loss if there is one.
///
/// # Errors
///
/// `QuorumUnreachable`.
pub(crate) fn check_key(
    records: &mut Transaction<'_>,
    key: &PublicKeyPart,
    loss: Option<Loss>,
) -> Result<(), Denial> {
    let info = &key.info;
    if !is_guarded(info) {
        return Ok(());
    }
    let owner = signs(records, info.owner, loss)?;
    let mut sharees = Vec::with_capacity(key.shares.len());
    for &user in &key.shares {
        if loss != Some(Loss::User(user)) {
            sharees.push(signs(records, user, loss)?);
        }
    }
    check(info, owner, &sharees)
}

/// The rule. Of the owner and each sharee it is told whether a key is registered.
fn check(info: &KeyInfo, owner: bool, sharees: &[bool]) -> Result<(), Denial> {
    // Only the owner proposes what changes the key; anybody who may use it proposes that.
    let managing = count(sharees);
    let all_sign = owner && sharees.iter().all(|signs| *signs);
    let using = (usize::from(owner) + count(sharees)).saturating_sub(usize::from(all_sign));
    for (needed, reachable, what) in
        [(info.quorum_management, managing, "change"), (info.quorum_usage, using, "use")]
    {
        let needed = usize::from(needed);
        if needed > 1 && reachable < needed {
            let detail = format!(
                "{needed} approvals would be needed to {what} the key {}, and {reachable} could be had: share it \
                 with more users who registered keys for approvals first",
                info.label
            );
            return Err(Denial::new(RefusalCode::QuorumUnreachable, detail));
        }
    }
    Ok(())
}

/// Whether all guarded keys that a user may use stay within reach after the loss.
pub(crate) fn check_keys_of(records: &mut Transaction<'_>, user: UserId, loss: Loss) -> Result<(), Denial> {
    let mut after = None;
    loop {
        let group = records.keys().group_tag(TagOf::KeyMember, &user.0);
        let page = records.scan::<KeyMember>(Some(&group), after, PAGE)?;
        for member in &page {
            if let Some(key) = keys::find_if_there(records, member.content.key)? {
                check_key(records, &key.content, Some(loss))?;
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.id),
            _ => return Ok(()),
        }
    }
}

/// Will note that a user may use a guarded key, so that it is found when the user goes.
pub(crate) fn note(records: &mut Transaction<'_>, key: &KeyInfo, user: UserId) -> Result<(), Denial> {
    if !is_guarded(key) {
        return Ok(());
    }
    let group = records.keys().group_tag(TagOf::KeyMember, &user.0);
    records.put(member_record(key.id, user), None, &KeyMember { key: key.id, user }, Vec::new(), Some(group))
}

/// Will strike that out.
pub(crate) fn forget(records: &mut Transaction<'_>, key: &KeyInfo, user: UserId) -> Result<(), Denial> {
    if is_guarded(key)
        && let Some(Opened { id, version, .. }) = records.load::<KeyMember>(member_record(key.id, user))?
    {
        records.delete::<KeyMember>(id, version);
    }
    Ok(())
}

fn is_guarded(key: &KeyInfo) -> bool {
    key.quorum_management > 1 || key.quorum_usage > 1
}

fn signs(records: &mut Transaction<'_>, user: UserId, loss: Option<Loss>) -> Result<bool, Denial> {
    let found = records.load::<User>(user_record(user))?;
    let signs = found
        .is_some_and(|user| user.content.role == Role::CryptoUser && user.content.approval_key.is_some());
    Ok(signs && loss != Some(Loss::ApprovalKey(user)))
}

fn count(signing: &[bool]) -> usize {
    signing.iter().filter(|signs| **signs).count()
}

fn member_record(key: KeyId, user: UserId) -> RecordId {
    pair_record(key, user)
}

#[cfg(test)]
mod tests;
