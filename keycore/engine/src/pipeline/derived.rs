//! Keys from keys: derivation, wrapping, unwrapping. Always on a worker.

use std::sync::Arc;

use keycore_wire::{
    Attribute, DeriveKey, IdempotencyKey, KeyForm, KeyId, KeyInfo, KeyTemplate, MAX_WRAPPED, PlainKey,
    RefusalCode, Secret, UnwrapKey, WrapKey, WrappedKey,
};

use super::Context;
use super::record::Facts;
use crate::denial::Denial;
use crate::engine::locked;
use crate::key_cache::LoadedKey;
use crate::keys::{self, NewKey};
use crate::material::{Material, SecretKey};
use crate::mechanism;
use crate::policy::Permission;
use crate::quorum::KeyApproval;
use crate::wrapping;

/// Shortest derived key, in bytes: 112 bits (SP 800-131A). A shorter one could be found by trying, and then, byte by
/// byte, the secret that it is the beginning of.
const MIN_DERIVED: usize = 14;

/// Derives a key and keeps it.
pub(super) fn derive(
    context: &Context<'_>,
    permission: &Permission,
    request: &DeriveKey<'_>,
    facts: &mut Facts,
) -> Result<KeyInfo, Denial> {
    facts.note = format!("{} from key {}", request.mechanism, request.key);
    let Some(length) = request.algorithm.secret_len().filter(|length| *length >= MIN_DERIVED) else {
        let detail =
            format!("a derived key is an AES key or a generic secret of {MIN_DERIVED} bytes or more");
        return Err(Denial::new(RefusalCode::WrongInput, detail));
    };
    let base = context.loaded(permission, request.key, Attribute::Derive)?;
    let approval = match KeyApproval::find(context.asked, &base.info) {
        Ok(approval) => approval,
        Err(denial) => {
            return made_before(context, permission, request.idempotency_key, &request.template, denial);
        }
    };
    let bytes = mechanism::derive(base.material(permission, &approval)?, request.mechanism, length)?;
    let material = Material::Secret(SecretKey::new(request.algorithm, Secret::from(bytes))?);
    let new = NewKey {
        permission,
        made_by: request.idempotency_key,
        attributes: wrapping::attributes_of_derived(&base.info, request.algorithm, &request.template)?,
        template: &request.template,
        approval: Some((&approval, context.asked)),
    };
    keys::keep(context.engine, &new, material, context.now)
}

/// Wraps a key.
pub(super) fn wrap(
    context: &Context<'_>,
    permission: &Permission,
    request: &WrapKey,
    facts: &mut Facts,
) -> Result<WrappedKey, Denial> {
    facts.note = format!("{} under key {}", request.mechanism, request.wrapping);
    let wrapping_key = context.loaded(permission, request.wrapping, Attribute::Wrap)?;
    let key = context.loaded(permission, request.key, Attribute::Extractable)?;
    facts.label = Some(key.info.label.to_string());
    if key.info.owner != permission.actor()? {
        return Err(Denial::new(RefusalCode::PermissionDenied, "only its owner wraps a key"));
    }
    wrapping::check_wrap(&wrapping_key.info, &key.info)?;
    let asked = context.asked;
    let approval = KeyApproval::find(asked, &wrapping_key.info)?.and(KeyApproval::find(asked, &key.info)?);
    let plain = key.material(permission, &approval)?.to_stored()?;
    let nonce = || locked(&context.engine.nonces).next(request.wrapping);
    let material = wrapping_key.material(permission, &approval)?;
    let bytes = mechanism::wrap(material, request.mechanism, plain.expose(), nonce)?;
    approval.spend_now(asked)?;
    Ok(WrappedKey { bytes })
}

/// Unwraps a key and keeps it.
pub(super) fn unwrap(
    context: &Context<'_>,
    permission: &Permission,
    request: &UnwrapKey<'_>,
    facts: &mut Facts,
) -> Result<KeyInfo, Denial> {
    if request.wrapped.len() > MAX_WRAPPED {
        return Err(Denial::malformed(format!("a wrapped key has at most {MAX_WRAPPED} bytes")));
    }
    facts.note = format!("{} under key {}", request.mechanism, request.unwrapping);
    let unwrapping = context.loaded(permission, request.unwrapping, Attribute::Unwrap)?;
    // Before anything is decrypted; the rest when it is known what is inside.
    wrapping::check_purpose(request.template.attributes)?;
    let approval = match KeyApproval::find(context.asked, &unwrapping.info) {
        Ok(approval) => approval,
        Err(denial) => {
            return made_before(context, permission, request.idempotency_key, &request.template, denial);
        }
    };
    let material = unwrapping.material(permission, &approval)?;
    let plain = mechanism::unwrap(material, request.mechanism, request.wrapped)?;
    let plain = match request.form {
        KeyForm::Pkcs8 => PlainKey::Pkcs8(plain),
        KeyForm::Aes => PlainKey::Aes(plain),
        KeyForm::GenericSecret => PlainKey::GenericSecret(plain),
    };
    // What is inside tells nobody more than that it is not right.
    let material = Material::import(&plain).map_err(|denial| {
        Denial::new(RefusalCode::DecryptionFailed, "it does not decrypt under this key")
            .because(denial.refusal.detail)
    })?;
    let new = NewKey {
        permission,
        made_by: request.idempotency_key,
        attributes: wrapping::attributes_of_unwrapped(
            &unwrapping.info,
            material.algorithm(),
            &request.template,
        )?,
        template: &request.template,
        approval: Some((&approval, context.asked)),
    };
    keys::keep(context.engine, &new, material, context.now)
}

/// What the same request made when it was approved, if what refuses it now is that its approvals are used up.
fn made_before(
    context: &Context<'_>,
    permission: &Permission,
    made_by: IdempotencyKey,
    template: &KeyTemplate,
    denial: Denial,
) -> Result<KeyInfo, Denial> {
    if denial.refusal.code != RefusalCode::QuorumRequired {
        return Err(denial);
    }
    keys::made_with_approvals(context.engine, permission, made_by, template)?.ok_or(denial)
}

impl Context<'_> {
    /// The key, if it has `attribute`.
    fn loaded(
        &self,
        permission: &Permission,
        id: KeyId,
        attribute: Attribute,
    ) -> Result<Arc<LoadedKey>, Denial> {
        self.use_key(permission, id, attribute, &mut Facts::default())?
            .ok_or_else(|| Denial::internal("a key operation ran on the event loop"))
    }
}
