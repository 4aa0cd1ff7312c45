//! Keys that other crypto users may use.

use keycore_store::RecordId;
use keycore_wire::{
    Attribute, Attributes, KeyId, KeyInfo, KeyPage, KeySelector, KeyShares, ListSharedKeys, ListShares,
    MAX_PAGE, RefusalCode, Role, ShareKey, SpkiSha256, UnshareKey, UserId, UserName,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::key_changes::rewrite;
use crate::keys;
use crate::ledger::{Opened, Transaction};
use crate::policy::Permission;
use crate::private_key::sha256;
use crate::quorum::{KeyApproval, Proposal, reach};
use crate::records::{Content, KeyShare, PublicKeyPart};
use crate::seal::TagOf;
use crate::users;

/// Shares a key. Returns what it is.
pub(crate) fn share(
    engine: &Engine,
    permission: &Permission,
    request: &ShareKey,
    asked: &Proposal<'_>,
) -> Result<KeyInfo, Denial> {
    let owner = permission.actor()?;
    engine.transact(|records| {
        users::acting(records, owner)?;
        let mut key = keys::find_own(records, permission, &KeySelector::Id(request.key))?;
        let user = sharee(records, &key.content, &request.with)?;
        if key.content.shares.contains(&user) {
            return Ok(key.content.info);
        }
        if key.content.shares.len() >= engine.options.max_key_shares {
            return Err(too_many(engine));
        }
        KeyApproval::take(records, asked, &key.content.info)?;
        key.content.shares.push(user);
        put_share(records, &key.content.info, user)?;
        rewrite(records, &key)
    })
}

/// Takes back a share. Returns what the key is.
pub(crate) fn unshare(
    engine: &Engine,
    permission: &Permission,
    request: &UnshareKey,
    asked: &Proposal<'_>,
) -> Result<KeyInfo, Denial> {
    let owner = permission.actor()?;
    engine.transact(|records| {
        users::acting(records, owner)?;
        let mut key = keys::find_own(records, permission, &KeySelector::Id(request.key))?;
        let with = users::find(records, &request.with)?.ok_or_else(Denial::no_user)?;
        let user = UserId(with.id.0);
        if !key.content.shares.contains(&user) {
            return Err(Denial::no_user().because("the key is not shared with this user"));
        }
        KeyApproval::take(records, asked, &key.content.info)?;
        key.content.shares.retain(|sharee| *sharee != user);
        reach::check_key(records, &key.content, None)?;
        delete_share(records, &key.content.info, user)?;
        rewrite(records, &key)
    })
}

/// Shares a new key with the users of its template, before it is written.
pub(crate) fn share_new(
    engine: &Engine,
    records: &mut Transaction<'_>,
    key: &mut PublicKeyPart,
    with: &[UserName],
) -> Result<(), Denial> {
    if with.len() > engine.options.max_key_shares {
        return Err(too_many(engine));
    }
    for name in with {
        let user = sharee(records, key, name)?;
        if !key.shares.contains(&user) {
            key.shares.push(user);
            put_share(records, &key.info, user)?;
        }
    }
    Ok(())
}

/// The user of a name, if the key can be shared with it.
fn sharee(records: &mut Transaction<'_>, key: &PublicKeyPart, name: &UserName) -> Result<UserId, Denial> {
    let with = users::find(records, name)?.ok_or_else(Denial::no_user)?;
    let user = UserId(with.id.0);
    let is_someone_else = with.content.role == Role::CryptoUser && user != key.info.owner;
    if is_someone_else && key.session.is_none() {
        return Ok(user);
    }
    let detail = "a key is shared with another crypto user, and is no session's";
    Err(Denial::new(RefusalCode::KeyNotSuitable, detail))
}

fn too_many(engine: &Engine) -> Denial {
    let most = engine.options.max_key_shares;
    Denial::new(RefusalCode::LimitReached, format!("a key is shared with at most {most} users"))
}

/// Whom a key is shared with. Users who were deleted since are left out.
pub(crate) fn list_shares(
    engine: &Engine,
    permission: &Permission,
    request: ListShares,
) -> Result<KeyShares, Denial> {
    let key =
        engine.transact(|records| keys::find_own(records, permission, &KeySelector::Id(request.key)))?;
    let snapshot = engine.snapshot();
    let name = |user| snapshot.users.get(user).map(|known| (*known.name).clone());
    Ok(KeyShares { with: key.content.shares.iter().filter_map(name).collect() })
}

/// A page of the keys that others share with the user.
pub(crate) fn list_shared(
    engine: &Engine,
    permission: &Permission,
    request: ListSharedKeys,
) -> Result<KeyPage, Denial> {
    let user = permission.actor()?;
    let limit = usize::from(request.limit.clamp(1, MAX_PAGE));
    let after = request.after.map(|key| pair_record(key, user));
    engine.transact(|records| {
        let group = records.keys().group_tag(TagOf::KeyShares, &user.0);
        let mut found = records.scan::<KeyShare>(Some(&group), after, limit + 1)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut shared = Vec::with_capacity(found.len());
        for share in found {
            let key = keys::find_anybodys(records, share.content.key)?;
            if key.content.shares.contains(&user) {
                shared.push(for_sharee(key.content.info));
            }
        }
        Ok(KeyPage { keys: shared, more })
    })
}

/// What a sharee may know of a key: what it is and may be used for, not how it is managed.
pub(crate) fn for_sharee(info: KeyInfo) -> KeyInfo {
    let public = Attributes::USAGES.set(Attribute::Local, true);
    KeyInfo {
        attributes: info.attributes.and(public),
        check_value: [0; 3],
        quorum_management: 0,
        wrap_template: None,
        unwrap_template: None,
        predecessor: None,
        ..info
    }
}

/// The key pair that a sharee means by its public key.
pub(crate) fn shared_pair(
    records: &mut Transaction<'_>,
    user: UserId,
    spki: &SpkiSha256,
) -> Result<Option<KeyId>, Denial> {
    let tag = records.keys().index_tag(TagOf::SharedSpki, &user.0, &spki.0);
    let share = records.find(&tag, |share: &KeyShare| share.user == user && share.spki == Some(*spki))?;
    Ok(share.map(|share| share.content.key))
}

/// Will write the sharee's side of a share.
pub(crate) fn put_share(records: &mut Transaction<'_>, info: &KeyInfo, user: UserId) -> Result<(), Denial> {
    let tag = |spki: SpkiSha256| records.keys().index_tag(TagOf::SharedSpki, &user.0, &spki.0);
    let index: Vec<_> = info.spki_sha256.map(tag).into_iter().collect();
    for tag in &index {
        if records.is_taken(KeyShare::KIND, tag)? {
            let detail = "another user shares the same key pair with this user already";
            return Err(Denial::new(RefusalCode::AlreadyExists, detail));
        }
    }
    let group = records.keys().group_tag(TagOf::KeyShares, &user.0);
    let share = KeyShare { key: info.id, user, spki: info.spki_sha256 };
    records.put(pair_record(info.id, user), None, &share, index, Some(group))?;
    reach::note(records, info, user)
}

/// Will delete the sharee's side of a share.
pub(crate) fn delete_share(
    records: &mut Transaction<'_>,
    info: &KeyInfo,
    user: UserId,
) -> Result<(), Denial> {
    if let Some(Opened { id, version, .. }) = records.load::<KeyShare>(pair_record(info.id, user))? {
        records.delete::<KeyShare>(id, version);
    }
    reach::forget(records, info, user)
}

/// The record of a key and a user. Ordered as the keys are, so that a page's last key tells where the next one begins.
pub(crate) fn pair_record(key: KeyId, user: UserId) -> RecordId {
    let hash = sha256(&[&key.0[..], &user.0[..]].concat());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&key.0[..8]);
    id[8..].copy_from_slice(&hash[..8]);
    RecordId(id)
}
