//! Keys of users. Whose keys are meant is always the permission's actor; nobody else's are found.

use std::sync::Arc;

use aws_lc_rs::rand;
use keycore_store::{IndexTag, RecordId, Revision};
use keycore_wire::{
    Attribute, Attributes, GenerateKey, IdempotencyKey, ImportKey, KeyAlgorithm, KeyId, KeyInfo, KeyLabel,
    KeyPage, KeySelector, KeyTemplate, ListKeys, MAX_PAGE, PublicKeyReply, RefusalCode, SpkiSha256, UserId,
};

use crate::attributes::{self, Origin};
use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::key_cache::LoadedKey;
use crate::key_sharing::{delete_share, for_sharee, shared_pair};
use crate::ledger::{Opened, Transaction};
use crate::material::Material;
use crate::options::Now;
use crate::policy::Permission;
use crate::private_key::spki_sha256;
use crate::records::{Content, PublicKeyPart, SecretKeyPart};
use crate::seal::{SealingKeys, TagOf};
use crate::users;

/// How often a key is read again because something was evicted from the cache meanwhile.
const LOAD_ATTEMPTS: usize = 4;

/// Makes a key or a key pair.
pub(crate) fn generate(
    engine: &Engine,
    permission: &Permission,
    request: &GenerateKey,
    now: Now,
) -> Result<KeyInfo, Denial> {
    let owner = permission.actor()?;
    let new = NewKey {
        owner,
        made_by: request.idempotency_key,
        attributes: attributes::of_new(Origin::Generated, request.algorithm, &request.template)?,
        template: &request.template,
    };
    // Making an RSA key takes seconds: what can be refused, is before.
    let earlier = engine.transact(|records| {
        let made = find_made(records, owner, request.idempotency_key)?;
        if made.is_none() {
            check_free(records, engine, owner, &request.template.label)?;
        }
        Ok(made)
    })?;
    if let Some(made) = earlier {
        return repeated(made, &new, request.algorithm, None);
    }
    engine.self_tests.generator_is_healthy()?;
    keep(engine, &new, Material::generate(request.algorithm)?, now)
}

/// Takes in a key or a key pair.
pub(crate) fn import(
    engine: &Engine,
    permission: &Permission,
    request: &ImportKey,
    now: Now,
) -> Result<KeyInfo, Denial> {
    let material = Material::import(&request.key)?;
    let new = NewKey {
        owner: permission.actor()?,
        made_by: request.idempotency_key,
        attributes: attributes::of_new(Origin::Imported, material.algorithm(), &request.template)?,
        template: &request.template,
    };
    keep(engine, &new, material, now)
}

/// A page of keys.
pub(crate) fn list(engine: &Engine, permission: &Permission, request: ListKeys) -> Result<KeyPage, Denial> {
    let owner = permission.actor()?;
    let limit = usize::from(request.limit.clamp(1, MAX_PAGE));
    let mut found = engine.transact(|records| {
        let group = records.keys().group_tag(TagOf::KeyOwner, &owner.0);
        records.scan::<PublicKeyPart>(Some(&group), request.after.map(key_record), limit + 1)
    })?;
    let more = found.len() > limit;
    found.truncate(limit);
    Ok(KeyPage { keys: found.into_iter().map(|key| key.content.info).collect(), more })
}

/// The public half of one key.
pub(crate) fn public(
    engine: &Engine,
    permission: &Permission,
    selector: &KeySelector,
) -> Result<PublicKeyReply, Denial> {
    let PublicKeyPart { info, spki, .. } =
        engine.transact(|records| find(records, permission, selector))?.content;
    let info = if info.owner == permission.actor()? { info } else { for_sharee(info) };
    Ok(PublicKeyReply { info, spki })
}

/// Deletes a key. Returns what it was.
pub(crate) fn delete(engine: &Engine, permission: &Permission, key: KeyId) -> Result<KeyInfo, Denial> {
    engine.transact(|records| {
        let key = find_own(records, permission, &KeySelector::Id(key))?;
        if !key.content.info.attributes.has(Attribute::Destroyable) {
            return Err(Denial::new(RefusalCode::AttributeFixed, "the key is not destroyable"));
        }
        remove(records, key)
    })
}

/// Will delete a key that was read, with all that belongs to it.
pub(crate) fn remove(records: &mut Transaction<'_>, key: Opened<PublicKeyPart>) -> Result<KeyInfo, Denial> {
    for user in key.content.shares {
        delete_share(records, key.content.info.id, user)?;
    }
    records.delete::<PublicKeyPart>(key.id, key.version);
    // Written in the same commit, so at the same version; the store refuses if not.
    records.delete::<SecretKeyPart>(key.id, key.version);
    Ok(key.content.info)
}

/// Unseals a key, and keeps it in the cache.
pub(crate) fn load(
    engine: &Engine,
    permission: &Permission,
    selector: &KeySelector,
) -> Result<Arc<LoadedKey>, Denial> {
    let mut attempt = 0;
    loop {
        let epoch = locked(&engine.keys).epoch();
        let (public, secret) = engine.transact(|records| {
            let public = find(records, permission, selector)?;
            let secret = records.load::<SecretKeyPart>(public.id)?;
            Ok((public, secret.ok_or_else(|| Denial::no_key("deleted while it was looked up"))?))
        })?;
        if public.version != secret.version {
            return Err(Denial::internal("the halves of a stored key were not written together"));
        }
        let material = Material::load(public.content.info.algorithm, secret.content.secret)?;
        let key = Arc::new(LoadedKey::new(public.content, material));
        attempt += 1;
        if locked(&engine.keys).insert(epoch, Arc::clone(&key)) || attempt == LOAD_ATTEMPTS {
            return Ok(key);
        }
    }
}

/// What is told of a key that is to be kept, besides the key.
pub(crate) struct NewKey<'a> {
    pub(crate) owner: UserId,
    pub(crate) made_by: IdempotencyKey,
    /// Those of the template and those that the engine adds.
    pub(crate) attributes: Attributes,
    pub(crate) template: &'a KeyTemplate,
}

/// Writes both halves, unless the same request did before.
pub(crate) fn keep(
    engine: &Engine,
    new: &NewKey<'_>,
    material: Material,
    now: Now,
) -> Result<KeyInfo, Denial> {
    let algorithm: KeyAlgorithm = material.algorithm();
    let spki = material.spki()?;
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    let info = KeyInfo {
        id: KeyId(id),
        owner: new.owner,
        label: new.template.label.clone(),
        algorithm,
        attributes: new.attributes,
        spki_sha256: spki.as_deref().map(spki_sha256),
        check_value: material.check_value()?,
        quorum_management: new.template.quorum_management,
        quorum_usage: new.template.quorum_usage,
        wrap_template: new.template.wrap_template,
        unwrap_template: new.template.unwrap_template,
        predecessor: None,
        retired_until: None,
        created_at: now.wall,
    };
    let check_value = info.check_value;
    let secret = SecretKeyPart { secret: material.to_stored()? };
    let public = PublicKeyPart {
        info,
        spki: spki.unwrap_or_default(),
        made_by: new.made_by,
        shares: Vec::new(),
        session: None,
    };
    drop(material);

    let earlier = engine.transact(|records| {
        if let Some(made) = find_made(records, new.owner, new.made_by)? {
            return Ok(Some(made));
        }
        users::acting(records, new.owner)?;
        check_free(records, engine, new.owner, &new.template.label)?;
        if let Some(spki) = &public.info.spki_sha256 {
            let by_spki = spki_tag(records.keys(), new.owner, spki);
            if records.is_taken(PublicKeyPart::KIND, &by_spki)? {
                return Err(Denial::new(RefusalCode::AlreadyExists, "the user has this key already"));
            }
        }
        put(records, None, &public, &secret)?;
        Ok(None)
    })?;
    match earlier {
        Some(made) => repeated(made, new, algorithm, Some(check_value)),
        None => Ok(public.info),
    }
}

/// Will write both halves with all their tags, new or in place of those that were read at `expect`.
pub(crate) fn put(
    records: &mut Transaction<'_>,
    expect: Option<Revision>,
    public: &PublicKeyPart,
    secret: &SecretKeyPart,
) -> Result<(), Denial> {
    let PublicKeyPart { info, made_by, .. } = public;
    let keys = records.keys();
    let mut index = vec![label_tag(keys, info.owner, &info.label), request_tag(keys, info.owner, *made_by)];
    index.extend(info.spki_sha256.iter().map(|spki| spki_tag(keys, info.owner, spki)));
    let group = keys.group_tag(TagOf::KeyOwner, &info.owner.0);
    let record = key_record(info.id);
    records.put(record, expect, public, index, Some(group))?;
    records.put(record, expect, secret, Vec::new(), None)
}

/// The request was carried out before: the same again, or another one under its name. An imported key is the same if
/// it has the same check value.
fn repeated(
    made: Opened<PublicKeyPart>,
    new: &NewKey<'_>,
    algorithm: KeyAlgorithm,
    imported: Option<[u8; 3]>,
) -> Result<KeyInfo, Denial> {
    let info = made.content.info;
    let template = KeyTemplate {
        label: info.label.clone(),
        attributes: new.template.attributes,
        quorum_management: info.quorum_management,
        quorum_usage: info.quorum_usage,
        wrap_template: info.wrap_template,
        unwrap_template: info.unwrap_template,
    };
    let is_same = (info.attributes, info.algorithm, &template) == (new.attributes, algorithm, new.template)
        && (info.attributes.has(Attribute::Local) || imported.is_none_or(|value| value == info.check_value));
    if is_same {
        Ok(info)
    } else {
        Err(Denial::new(RefusalCode::AlreadyExists, "this idempotency key made another key"))
    }
}

fn check_free(
    records: &mut Transaction<'_>,
    engine: &Engine,
    owner: UserId,
    label: &KeyLabel,
) -> Result<(), Denial> {
    let tag = label_tag(records.keys(), owner, label);
    if records.is_taken(PublicKeyPart::KIND, &tag)? {
        return Err(Denial::new(RefusalCode::AlreadyExists, "the user has a key with this label"));
    }
    if records.count::<PublicKeyPart>(None)? >= engine.options.max_keys {
        return Err(Denial::new(RefusalCode::LimitReached, "the cluster has as many keys as it may have"));
    }
    Ok(())
}

/// A key that the user may use: its own, or shared with it. Labels are the owner's alone.
fn find(
    records: &mut Transaction<'_>,
    permission: &Permission,
    selector: &KeySelector,
) -> Result<Opened<PublicKeyPart>, Denial> {
    let user = permission.actor()?;
    let found = match selector {
        KeySelector::Id(id) => records.load::<PublicKeyPart>(key_record(*id))?,
        KeySelector::Label(label) => {
            let tag = label_tag(records.keys(), user, label);
            records.find(&tag, |key: &PublicKeyPart| key.info.label == *label)?
        }
        KeySelector::SpkiSha256(spki) => {
            let tag = spki_tag(records.keys(), user, spki);
            match records.find(&tag, |key: &PublicKeyPart| key.info.spki_sha256 == Some(*spki))? {
                Some(own) => Some(own),
                None => match shared_pair(records, user, spki)? {
                    Some(shared) => records.load::<PublicKeyPart>(key_record(shared))?,
                    None => None,
                },
            }
        }
    };
    let Some(key) = found else { return Err(Denial::no_key("the user has no such key")) };
    let PublicKeyPart { info, shares, session, .. } = &key.content;
    if info.owner != user && !shares.contains(&user) {
        return Err(Denial::no_key(format!("the key is of user {}", info.owner)));
    }
    if session.is_some_and(|session| permission.session() != Some(session)) {
        return Err(Denial::no_key("the key is another session's"));
    }
    Ok(key)
}

/// A key of the user itself. Of a shared one the refusal says whose it is not.
pub(crate) fn find_own(
    records: &mut Transaction<'_>,
    permission: &Permission,
    selector: &KeySelector,
) -> Result<Opened<PublicKeyPart>, Denial> {
    let key = find(records, permission, selector)?;
    if key.content.info.owner == permission.actor()? {
        return Ok(key);
    }
    let detail = "the key is shared with this user, who may use it only; its owner manages it";
    Err(Denial::new(RefusalCode::PermissionDenied, detail))
}

/// A key, whoever has it: for admins, and for what was looked up as somebody's before.
pub(crate) fn find_anybodys(
    records: &mut Transaction<'_>,
    key: KeyId,
) -> Result<Opened<PublicKeyPart>, Denial> {
    records.load::<PublicKeyPart>(key_record(key))?.ok_or_else(|| Denial::no_key("there is no such key"))
}

/// Whether a key may be called `label` from now on.
pub(crate) fn check_label(
    records: &mut Transaction<'_>,
    key: &PublicKeyPart,
    label: &KeyLabel,
) -> Result<(), Denial> {
    let tag = label_tag(records.keys(), key.info.owner, label);
    if records.is_taken(PublicKeyPart::KIND, &tag)? {
        return Err(Denial::new(RefusalCode::AlreadyExists, "the user has a key with this label"));
    }
    Ok(())
}

fn find_made(
    records: &mut Transaction<'_>,
    owner: UserId,
    request: IdempotencyKey,
) -> Result<Option<Opened<PublicKeyPart>>, Denial> {
    let tag = request_tag(records.keys(), owner, request);
    records.find(&tag, |key: &PublicKeyPart| key.info.owner == owner && key.made_by == request)
}

fn label_tag(keys: &SealingKeys, owner: UserId, label: &KeyLabel) -> IndexTag {
    keys.index_tag(TagOf::KeyLabel, &owner.0, label.as_str().as_bytes())
}

fn spki_tag(keys: &SealingKeys, owner: UserId, spki: &SpkiSha256) -> IndexTag {
    keys.index_tag(TagOf::KeySpki, &owner.0, &spki.0)
}

fn request_tag(keys: &SealingKeys, owner: UserId, request: IdempotencyKey) -> IndexTag {
    keys.index_tag(TagOf::KeyRequest, &owner.0, &request.0)
}

fn key_record(key: KeyId) -> RecordId {
    RecordId(key.0)
}
