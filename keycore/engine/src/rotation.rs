//! Rotation: a new key in an old one's place, with a time for the old one to be needed less and less.

use core::time::Duration;

use keycore_wire::{Attribute, Attributes, KeyInfo, KeySelector, KeyTemplate, RefusalCode, RotateKey};

use crate::attributes::{self, Origin};
use crate::denial::Denial;
use crate::engine::Engine;
use crate::key_changes::rewrite;
use crate::key_sharing::put_share;
use crate::keys::{self, NewKey, key_record};
use crate::ledger::Transaction;
use crate::material::Material;
use crate::policy::Permission;
use crate::quorum::{KeyApproval, Proposal};
use crate::records::{PublicKeyPart, Retirement};
use crate::users;

/// What an old key no longer does.
const ENDS_AT_ONCE: Attributes = Attributes::of(&[Attribute::Sign, Attribute::Encrypt, Attribute::Wrap]);

/// What a key is rotated with.
const NEEDED: Attributes =
    Attributes::of(&[Attribute::Local, Attribute::Token, Attribute::Modifiable, Attribute::Destroyable]);

/// Puts a new key in the place of an old one. Returns the new one.
pub(crate) fn rotate(
    engine: &Engine,
    permission: &Permission,
    request: &RotateKey,
    asked: &Proposal<'_>,
) -> Result<KeyInfo, Denial> {
    let (owner, now) = (permission.actor()?, asked.now);
    let selector = KeySelector::Id(request.key);
    let find = |records: &mut Transaction<'_>| {
        let old = keys::find_own(records, permission, &selector)?;
        check(&old.content).map(|()| old)
    };
    let old = engine.transact(|records| match keys::find_made(records, owner, request.idempotency_key)? {
        Some(made) => Ok(Err(made.content.info)),
        None => find(records).map(Ok),
    })?;
    if let Ok(old) = &old {
        // Before a key is made, which takes long.
        KeyApproval::find(asked, &old.content.info)?;
    }
    let old = match old {
        Ok(old) => old.content.info,
        Err(made) => return repeated(made, request),
    };
    let seen = old.attributes;
    // As it was asked for when it was made; `trusted` is not inherited.
    let not_asked = [Attribute::Local, Attribute::AlwaysSensitive, Attribute::NeverExtractable]
        .into_iter()
        .chain([Attribute::Private, Attribute::Trusted]);
    let template = KeyTemplate {
        label: old.label,
        attributes: not_asked.fold(old.attributes, |attributes, one| attributes.set(one, false)),
        quorum_management: old.quorum_management,
        quorum_usage: old.quorum_usage,
        wrap_template: old.wrap_template,
        unwrap_template: old.unwrap_template,
        share_with: Vec::new(),
    };
    let new = NewKey {
        permission,
        made_by: request.idempotency_key,
        attributes: attributes::of_new(Origin::Generated, old.algorithm, &template)?,
        template: &template,
        approval: None,
    };
    engine.self_tests.generator_is_healthy()?;
    let (mut public, secret) = keys::halves(&new, &Material::generate(old.algorithm)?, now)?;
    public.info.predecessor = Some(request.key);
    let until = now.wall.plus(Duration::from_secs(request.grace_secs.into()));
    let made = engine.transact(|records| {
        if let Some(made) = keys::find_made(records, owner, request.idempotency_key)? {
            return Ok(Some(made.content.info));
        }
        users::acting(records, owner)?;
        let mut old = find(records)?;
        keys::check_limits(records, engine, owner)?;
        if old.content.info.attributes != seen {
            let detail = "the key was changed while its successor was made; try again";
            return Err(Denial::new(RefusalCode::Overloaded, detail));
        }
        KeyApproval::take(records, asked, &old.content.info)?;
        public.info.label = old.content.info.label.clone();
        public.shares = core::mem::take(&mut old.content.shares);
        for &sharee in &public.shares {
            put_share(records, &public.info, sharee)?;
        }
        keys::check_quorum(records, &public)?;
        old.content.shares.clone_from(&public.shares);
        old.content.info.attributes = old.content.info.attributes.without(ENDS_AT_ONCE);
        old.content.info.retired_until = Some(until);
        rewrite(records, &old)?;
        records.put(key_record(request.key), None, &Retirement { until }, Vec::new(), None)?;
        keys::put(records, None, &public, &secret)?;
        Ok(None)
    })?;
    match made {
        Some(made) => repeated(made, request),
        None => Ok(public.info),
    }
}

fn check(old: &PublicKeyPart) -> Result<(), Denial> {
    if old.info.retired_until.is_some() {
        return Err(Denial::new(RefusalCode::AttributeFixed, "the key was rotated already"));
    }
    if !old.info.attributes.has_all(NEEDED) {
        let missing = NEEDED.without(old.info.attributes);
        return Err(Denial::new(
            RefusalCode::AttributeFixed,
            format!("to be rotated a key has to be {missing}"),
        ));
    }
    Ok(())
}

fn repeated(made: KeyInfo, request: &RotateKey) -> Result<KeyInfo, Denial> {
    if made.predecessor == Some(request.key) {
        return Ok(made);
    }
    Err(Denial::new(RefusalCode::AlreadyExists, "this idempotency key made another key"))
}
