//! Keys of users. Whose keys are meant is always the permission's actor; nobody else's are found.

use std::sync::Arc;

use aws_lc_rs::rand;
use keycore_store::{IndexTag, RecordId};
use keycore_wire::{
    GenerateKey, IdempotencyKey, ImportKey, KeyAlgorithm, KeyId, KeyInfo, KeyLabel, KeyPage, KeySelector,
    KeyUsage, ListKeys, MAX_PAGE, MAX_PKCS8, PublicKeyReply, RefusalCode, Secret, SpkiSha256, UserId,
};

use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::key_cache::LoadedKey;
use crate::ledger::{Opened, Transaction};
use crate::options::Now;
use crate::policy::Permission;
use crate::private_key::{PrivateKey, spki_sha256};
use crate::records::{Content, PrivateKeyPart, PublicKeyPart};
use crate::seal::{SealingKeys, TagOf};
use crate::users;

/// How often a key is read again because something was evicted from the cache meanwhile.
const LOAD_ATTEMPTS: usize = 4;

/// Makes a key pair.
pub(crate) fn generate(
    engine: &Engine,
    permission: &Permission,
    request: &GenerateKey,
    now: Now,
) -> Result<KeyInfo, Denial> {
    let owner = permission.actor()?;
    let same = |made: &KeyInfo| {
        made.local
            && (made.algorithm, made.usage, &made.label) == (request.algorithm, request.usage, &request.label)
    };
    // Making an RSA key takes seconds: what can be refused, is before.
    let earlier = engine.transact(|records| {
        let made = find_made(records, owner, request.idempotency_key)?;
        if made.is_none() {
            check_free(records, engine, owner, &request.label)?;
        }
        Ok(made)
    })?;
    if let Some(made) = earlier {
        return repeated(made, same);
    }
    engine.self_tests.generator_is_healthy()?;
    let private = PrivateKey::generate(request.algorithm)?;
    let new = NewKey {
        owner,
        made_by: request.idempotency_key,
        usage: request.usage,
        label: &request.label,
        local: true,
    };
    keep(engine, &new, private, now, same)
}

/// Takes in a key pair.
pub(crate) fn import(
    engine: &Engine,
    permission: &Permission,
    request: &ImportKey,
    now: Now,
) -> Result<KeyInfo, Denial> {
    if request.pkcs8.expose().len() > MAX_PKCS8 {
        return Err(Denial::malformed(format!("a private key has at most {MAX_PKCS8} bytes")));
    }
    let private = PrivateKey::import(request.pkcs8.expose())?;
    let spki = spki_sha256(&private.spki()?);
    let same = |made: &KeyInfo| {
        !made.local && (made.spki_sha256, made.usage, &made.label) == (spki, request.usage, &request.label)
    };
    let new = NewKey {
        owner: permission.actor()?,
        made_by: request.idempotency_key,
        usage: request.usage,
        label: &request.label,
        local: false,
    };
    keep(engine, &new, private, now, same)
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
    let owner = permission.actor()?;
    let found = engine.transact(|records| find(records, owner, selector))?;
    Ok(PublicKeyReply { info: found.content.info, spki: found.content.spki })
}

/// Deletes a key. Returns what it was.
pub(crate) fn delete(engine: &Engine, permission: &Permission, key: KeyId) -> Result<KeyInfo, Denial> {
    let owner = permission.actor()?;
    engine.transact(|records| {
        let public = find(records, owner, &KeySelector::Id(key))?;
        records.delete::<PublicKeyPart>(public.id, public.version);
        // Written in the same commit, so at the same version; the store refuses if not.
        records.delete::<PrivateKeyPart>(public.id, public.version);
        Ok(public.content.info)
    })
}

/// Unseals a key, and keeps it in the cache.
pub(crate) fn load(
    engine: &Engine,
    permission: &Permission,
    selector: &KeySelector,
) -> Result<Arc<LoadedKey>, Denial> {
    let owner = permission.actor()?;
    let mut attempt = 0;
    loop {
        let epoch = locked(&engine.keys).epoch();
        let (public, private) = engine.transact(|records| {
            let public = find(records, owner, selector)?;
            let private = records.load::<PrivateKeyPart>(public.id)?;
            Ok((public, private.ok_or_else(|| Denial::no_key("deleted while it was looked up"))?))
        })?;
        if public.version != private.version {
            return Err(Denial::internal("the halves of a stored key were not written together"));
        }
        let PublicKeyPart { info, spki, .. } = public.content;
        let pair = PrivateKey::load(info.algorithm, private.content.pkcs8.expose())?;
        let key = Arc::new(LoadedKey::new(info, spki, pair));
        attempt += 1;
        if locked(&engine.keys).insert(epoch, Arc::clone(&key)) || attempt == LOAD_ATTEMPTS {
            return Ok(key);
        }
    }
}

/// What is told of a key that is to be kept, besides the key.
struct NewKey<'a> {
    owner: UserId,
    made_by: IdempotencyKey,
    usage: KeyUsage,
    label: &'a KeyLabel,
    local: bool,
}

/// Writes both halves, unless the same request did before.
fn keep(
    engine: &Engine,
    new: &NewKey<'_>,
    private: PrivateKey,
    now: Now,
    same: impl Fn(&KeyInfo) -> bool,
) -> Result<KeyInfo, Denial> {
    let algorithm: KeyAlgorithm = private.algorithm();
    let spki = private.spki()?;
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    let info = KeyInfo {
        id: KeyId(id),
        owner: new.owner,
        label: new.label.clone(),
        algorithm,
        usage: new.usage,
        local: new.local,
        spki_sha256: spki_sha256(&spki),
        created_at: now.wall,
    };
    let secret = PrivateKeyPart { pkcs8: Secret::from(private.to_pkcs8()?) };
    let public = PublicKeyPart { info, spki, made_by: new.made_by };
    drop(private);

    let earlier = engine.transact(|records| {
        if let Some(made) = find_made(records, new.owner, new.made_by)? {
            return Ok(Some(made));
        }
        users::acting(records, new.owner)?;
        check_free(records, engine, new.owner, new.label)?;
        let by_spki = spki_tag(records.keys(), new.owner, &public.info.spki_sha256);
        if records.is_taken(PublicKeyPart::KIND, &by_spki)? {
            return Err(Denial::new(RefusalCode::AlreadyExists, "the user has this key already"));
        }
        let index = vec![
            label_tag(records.keys(), new.owner, new.label),
            by_spki,
            request_tag(records.keys(), new.owner, new.made_by),
        ];
        let group = records.keys().group_tag(TagOf::KeyOwner, &new.owner.0);
        let record = RecordId(id);
        records.put(record, None, &public, index, Some(group))?;
        records.put(record, None, &secret, Vec::new(), None)?;
        Ok(None)
    })?;
    match earlier {
        Some(made) => repeated(made, same),
        None => Ok(public.info),
    }
}

fn repeated(made: Opened<PublicKeyPart>, same: impl Fn(&KeyInfo) -> bool) -> Result<KeyInfo, Denial> {
    let info = made.content.info;
    if same(&info) {
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

fn find(
    records: &mut Transaction<'_>,
    owner: UserId,
    selector: &KeySelector,
) -> Result<Opened<PublicKeyPart>, Denial> {
    let found = match selector {
        KeySelector::Id(id) => records.load::<PublicKeyPart>(key_record(*id))?,
        KeySelector::Label(label) => {
            let tag = label_tag(records.keys(), owner, label);
            records.find(&tag, |key: &PublicKeyPart| key.info.label == *label)?
        }
        KeySelector::SpkiSha256(spki) => {
            let tag = spki_tag(records.keys(), owner, spki);
            records.find(&tag, |key: &PublicKeyPart| key.info.spki_sha256 == *spki)?
        }
    };
    match found {
        Some(key) if key.content.info.owner == owner => Ok(key),
        Some(key) => Err(Denial::no_key(format!("the key is of user {}", key.content.info.owner))),
        None => Err(Denial::no_key("the user has no such key")),
    }
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
