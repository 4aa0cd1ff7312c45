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
use crate::key_sharing::{delete_share, for_sharee, share_new, shared_pair};
use crate::ledger::{Opened, Transaction};
use crate::material::Material;
use crate::options::Now;
use crate::policy::Permission;
use crate::private_key::spki_sha256;
use crate::quorum::{KeyApproval, Proposal, reach};
use crate::records::{Content, PublicKeyPart, Retirement, SecretKeyPart};
use crate::seal::{SealingKeys, TagOf};
use crate::session::Session;
use crate::{session_keys, users};

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
        permission,
        made_by: request.idempotency_key,
        attributes: attributes::of_new(Origin::Generated, request.algorithm, &request.template)?,
        template: &request.template,
        approval: None,
    };
    // Making an RSA key takes seconds: what can be refused, is before.
    let earlier = engine.transact(|records| {
        let made = find_made(records, owner, request.idempotency_key)?;
        if made.is_none() {
            check_free(records, engine, &new)?;
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
        permission,
        made_by: request.idempotency_key,
        attributes: attributes::of_new(Origin::Imported, material.algorithm(), &request.template)?,
        template: &request.template,
        approval: None,
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
pub(crate) fn delete(
    engine: &Engine,
    permission: &Permission,
    key: KeyId,
    asked: &Proposal<'_>,
) -> Result<KeyInfo, Denial> {
    engine.transact(|records| {
        let key = find_own(records, permission, &KeySelector::Id(key))?;
        if !key.content.info.attributes.has(Attribute::Destroyable) {
            return Err(Denial::new(RefusalCode::AttributeFixed, "the key is not destroyable"));
        }
        KeyApproval::take(records, asked, &key.content.info)?;
        remove(records, key)
    })
}

/// Will delete a key that was read, with all that belongs to it.
pub(crate) fn remove(records: &mut Transaction<'_>, key: Opened<PublicKeyPart>) -> Result<KeyInfo, Denial> {
    for &user in &key.content.shares {
        delete_share(records, &key.content.info, user)?;
    }
    reach::forget(records, &key.content.info, key.content.info.owner)?;
    if let Some(session) = key.content.session {
        session_keys::forget(records, session, key.content.info.id)?;
    }
    if let Some(retirement) = records.load::<Retirement>(key.id)? {
        records.delete::<Retirement>(key.id, retirement.version);
    }
    delete_halves(records, &key);
    Ok(key.content.info)
}

/// Will delete a key's own records.
pub(crate) fn delete_halves(records: &mut Transaction<'_>, key: &Opened<PublicKeyPart>) {
    records.delete::<PublicKeyPart>(key.id, key.version);
    // Written in the same commit, so at the same version; the store refuses if not.
    records.delete::<SecretKeyPart>(key.id, key.version);
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
    /// Whose it will be, and of which session if it is no token key.
    pub(crate) permission: &'a Permission,
    pub(crate) made_by: IdempotencyKey,
    /// Those of the template and those that the engine adds.
    pub(crate) attributes: Attributes,
    pub(crate) template: &'a KeyTemplate,
    /// The approvals that making it uses up; none for a key that is made from no other.
    pub(crate) approval: Option<(&'a KeyApproval, &'a Proposal<'a>)>,
}

/// Writes both halves, unless the same request did before.
pub(crate) fn keep(
    engine: &Engine,
    new: &NewKey<'_>,
    material: Material,
    now: Now,
) -> Result<KeyInfo, Denial> {
    let owner = new.permission.actor()?;
    let (public, secret) = halves(new, &material, now)?;
    drop(material);
    let session = new.session()?;
    let earlier = engine.transact(|records| {
        if let Some(made) = find_made(records, owner, new.made_by)? {
            return Ok(Some(made));
        }
        users::acting(records, owner)?;
        check_free(records, engine, new)?;
        if let Some(spki) = &public.info.spki_sha256 {
            let by_spki = spki_tag(records.keys(), &scope(owner, public.session), spki);
            if records.is_taken(PublicKeyPart::KIND, &by_spki)? {
                return Err(Denial::new(RefusalCode::AlreadyExists, "the user has this key already"));
            }
        }
        if let Some((approval, asked)) = new.approval {
            approval.spend(records, asked)?;
        }
        let mut public = public.clone();
        share_new(engine, records, &mut public, &new.template.share_with)?;
        check_quorum(records, &public)?;
        if let Some(session) = &session {
            session_keys::note(records, session, public.info.id)?;
        }
        put(records, None, &public, &secret)?;
        Ok(None)
    })?;
    match earlier {
        Some(made) => repeated(made, new, public.info.algorithm, Some(public.info.check_value)),
        None => Ok(public.info),
    }
}

/// Whether a new key's approvals can be had; notes its owner among those whom they can be had from.
pub(crate) fn check_quorum(records: &mut Transaction<'_>, key: &PublicKeyPart) -> Result<(), Denial> {
    reach::check_key(records, key, None)?;
    reach::note(records, &key.info, key.info.owner)
}

/// Both halves of a new key, as they are to be written.
pub(crate) fn halves(
    new: &NewKey<'_>,
    material: &Material,
    now: Now,
) -> Result<(PublicKeyPart, SecretKeyPart), Denial> {
    let spki = material.spki()?;
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    let info = KeyInfo {
        id: KeyId(id),
        owner: new.permission.actor()?,
        label: new.template.label.clone(),
        algorithm: material.algorithm(),
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
    let session = new.session()?.map(|session| session.id);
    let (spki, made_by, shares) = (spki.unwrap_or_default(), new.made_by, Vec::new());
    Ok((
        PublicKeyPart { info, spki, made_by, shares, session },
        SecretKeyPart { secret: material.to_stored()? },
    ))
}

/// Will write both halves with all their tags, new or in place of those that were read at `expect`.
pub(crate) fn put(
    records: &mut Transaction<'_>,
    expect: Option<Revision>,
    public: &PublicKeyPart,
    secret: &SecretKeyPart,
) -> Result<(), Denial> {
    let PublicKeyPart { info, made_by, session, .. } = public;
    let keys = records.keys();
    let scope = scope(info.owner, *session);
    let mut index = vec![request_tag(keys, info.owner, *made_by)];
    // The label of a rotated key is its successor's.
    index.extend(info.retired_until.is_none().then(|| label_tag(keys, &scope, &info.label)));
    index.extend(info.spki_sha256.iter().map(|spki| spki_tag(keys, &scope, spki)));
    // Session keys are in no list of the owner's, but counted.
    let group = match session {
        None => TagOf::KeyOwner,
        Some(_) => TagOf::SessionKeyOwner,
    };
    let group = Some(keys.group_tag(group, &info.owner.0));
    let record = key_record(info.id);
    records.put(record, expect, public, index, group)?;
    records.put(record, expect, secret, Vec::new(), None)
}

/// Where labels and public keys are unique: among the owner's keys, or among the session's.
fn scope(owner: UserId, session: Option<[u8; 16]>) -> [u8; 16] {
    session.unwrap_or(owner.0)
}

impl NewKey<'_> {
    /// The session that it will end with.
    fn session(&self) -> Result<Option<Session>, Denial> {
        if self.attributes.has(Attribute::Token) {
            return Ok(None);
        }
        self.permission.login().map(Some).ok_or_else(Denial::not_logged_in)
    }
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
        // Shares may have changed since.
        share_with: new.template.share_with.clone(),
    };
    let is_same = (info.attributes, info.algorithm, &template) == (new.attributes, algorithm, new.template)
        && (info.attributes.has(Attribute::Local) || imported.is_none_or(|value| value == info.check_value));
    if is_same {
        Ok(info)
    } else {
        Err(Denial::new(RefusalCode::AlreadyExists, "this idempotency key made another key"))
    }
}

/// The key that the same request made, if that used its approvals up: there are none to look at once more.
pub(crate) fn made_with_approvals(
    engine: &Engine,
    permission: &Permission,
    made_by: IdempotencyKey,
    template: &KeyTemplate,
) -> Result<Option<KeyInfo>, Denial> {
    let owner = permission.actor()?;
    let made = engine.transact(|records| find_made(records, owner, made_by))?;
    let told = |info: &KeyInfo| {
        (
            info.label.clone(),
            info.quorum_management,
            info.quorum_usage,
            info.wrap_template,
            info.unwrap_template,
        )
    };
    let asked = (
        template.label.clone(),
        template.quorum_management,
        template.quorum_usage,
        template.wrap_template,
        template.unwrap_template,
    );
    Ok(made.map(|made| made.content.info).filter(|info| told(info) == asked))
}

fn check_free(records: &mut Transaction<'_>, engine: &Engine, new: &NewKey<'_>) -> Result<(), Denial> {
    let owner = new.permission.actor()?;
    let session = new.session()?.map(|session| session.id);
    check_label_in(records, &scope(owner, session), &new.template.label)?;
    check_limits(records, engine, owner)
}

/// Whether there may be one more key of this owner, session keys among them.
pub(crate) fn check_limits(
    records: &mut Transaction<'_>,
    engine: &Engine,
    owner: UserId,
) -> Result<(), Denial> {
    if records.count::<PublicKeyPart>(None)? >= engine.options.max_keys {
        return Err(Denial::new(RefusalCode::LimitReached, "the cluster has as many keys as it may have"));
    }
    let mut has = 0;
    for kept in [TagOf::KeyOwner, TagOf::SessionKeyOwner] {
        let group = records.keys().group_tag(kept, &owner.0);
        has += records.count::<PublicKeyPart>(Some(&group))?;
    }
    if has >= engine.options.max_user_keys {
        return Err(Denial::new(RefusalCode::LimitReached, "the user has as many keys as a user may have"));
    }
    Ok(())
}

/// A key that the user may use: its own, or shared with it. Labels are the owner's alone.
pub(crate) fn find(
    records: &mut Transaction<'_>,
    permission: &Permission,
    selector: &KeySelector,
) -> Result<Opened<PublicKeyPart>, Denial> {
    let user = permission.actor()?;
    let found = match selector {
        KeySelector::Id(id) => records.load::<PublicKeyPart>(key_record(*id))?,
        KeySelector::Label(label) => find_tagged(
            records,
            permission,
            |keys, scope| label_tag(keys, scope, label),
            |info| info.label == *label,
        )?,
        KeySelector::SpkiSha256(spki) => {
            let is_it = |info: &KeyInfo| info.spki_sha256 == Some(*spki);
            let own = find_tagged(records, permission, |keys, scope| spki_tag(keys, scope, spki), is_it)?;
            match own {
                Some(own) => Some(own),
                None => match shared_pair(records, user, spki)? {
                    Some(shared) => find_if_there(records, shared)?,
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

/// The session's key of a name, or else the user's.
fn find_tagged(
    records: &mut Transaction<'_>,
    permission: &Permission,
    tag: impl Fn(&SealingKeys, &[u8; 16]) -> IndexTag,
    is_it: impl Fn(&KeyInfo) -> bool,
) -> Result<Option<Opened<PublicKeyPart>>, Denial> {
    for scope in permission.session().into_iter().chain([permission.actor()?.0]) {
        let tag = tag(records.keys(), &scope);
        let found = records.find(&tag, |key: &PublicKeyPart| is_it(&key.info))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
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
    find_if_there(records, key)?.ok_or_else(|| Denial::no_key("there is no such key"))
}

/// A key, whoever has it.
pub(crate) fn find_if_there(
    records: &mut Transaction<'_>,
    key: KeyId,
) -> Result<Option<Opened<PublicKeyPart>>, Denial> {
    records.load::<PublicKeyPart>(key_record(key))
}

/// Whether a key may be called `label` from now on.
pub(crate) fn check_label(
    records: &mut Transaction<'_>,
    key: &PublicKeyPart,
    label: &KeyLabel,
) -> Result<(), Denial> {
    check_label_in(records, &scope(key.info.owner, key.session), label)
}

fn check_label_in(records: &mut Transaction<'_>, scope: &[u8; 16], label: &KeyLabel) -> Result<(), Denial> {
    let tag = label_tag(records.keys(), scope, label);
    if records.is_taken(PublicKeyPart::KIND, &tag)? {
        return Err(Denial::new(RefusalCode::AlreadyExists, "the user has a key with this label"));
    }
    Ok(())
}

pub(crate) fn find_made(
    records: &mut Transaction<'_>,
    owner: UserId,
    request: IdempotencyKey,
) -> Result<Option<Opened<PublicKeyPart>>, Denial> {
    let tag = request_tag(records.keys(), owner, request);
    records.find(&tag, |key: &PublicKeyPart| key.info.owner == owner && key.made_by == request)
}

fn label_tag(keys: &SealingKeys, scope: &[u8; 16], label: &KeyLabel) -> IndexTag {
    keys.index_tag(TagOf::KeyLabel, scope, label.as_str().as_bytes())
}

fn spki_tag(keys: &SealingKeys, scope: &[u8; 16], spki: &SpkiSha256) -> IndexTag {
    keys.index_tag(TagOf::KeySpki, scope, &spki.0)
}

fn request_tag(keys: &SealingKeys, owner: UserId, request: IdempotencyKey) -> IndexTag {
    keys.index_tag(TagOf::KeyRequest, &owner.0, &request.0)
}

pub(crate) fn key_record(key: KeyId) -> RecordId {
    RecordId(key.0)
}
