//! Data that keys sign, verify, encrypt and decrypt: find the key, see that it is for this, do it.

use std::sync::Arc;

use keycore_wire::{
    Attribute, CipherMechanism, Decrypt, Digest, DigestValue, Done, Encrypt, KeyId, KeySelector,
    MAX_CRYPTO_INPUT, Plaintext, Reply, SignData, Signature, Signer, VerifyData,
};

use super::record::Facts;
use super::signing::MAX_INLINE_MESSAGE;
use super::{Context, Executed, Place};
use crate::attributes;
use crate::denial::Denial;
use crate::engine::locked;
use crate::job::Cost;
use crate::key_cache::LoadedKey;
use crate::material::Material;
use crate::mechanism::{self, PublicKey};
use crate::policy::Permission;
use crate::session::SessionChange;

/// What a ciphertext may be longer than its plaintext: a block or a tag.
const MAX_EXPANSION: usize = 16;

/// Signs by any mechanism.
pub(super) fn sign(
    context: &Context<'_>,
    permission: &Permission,
    request: &SignData<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    check_length(request.data, MAX_CRYPTO_INPUT)?;
    facts.note = request.mechanism.to_string();
    let Some(key) = context.use_key(permission, request.key, Attribute::Sign, facts)? else {
        return Ok(Executed::Deferred(Cost::Lookup));
    };
    if context.is_to_defer(&key, key.is_slow(), request.data) {
        return Ok(Executed::Deferred(Cost::Signature));
    }
    let bytes = context.with_material(permission, &key, |material| {
        mechanism::sign(material, request.mechanism, request.prehashed, request.data)
    })?;
    Ok(replied(Reply::Signature(Signature { bytes })))
}

/// Verifies, with a key of the engine's or with anybody's public key.
pub(super) fn verify(
    context: &Context<'_>,
    permission: &Permission,
    request: &VerifyData<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    let VerifyData { mechanism, prehashed, data, signature, .. } = *request;
    check_length(data, MAX_CRYPTO_INPUT)?;
    check_length(signature, MAX_CRYPTO_INPUT)?;
    facts.note = mechanism.to_string();
    let key = match request.signer {
        Signer::Key(id) => {
            let Some(key) = context.use_key(permission, id, Attribute::Verify, facts)? else {
                return Ok(Executed::Deferred(Cost::Lookup));
            };
            Some(key)
        }
        Signer::PublicKey(_) => None,
    };
    // Verification with public keys takes as long as P-256's signature, or longer.
    let is_slow = key.as_ref().is_none_or(|key| key.is_pair());
    if context.is_long(is_slow, data) {
        return Ok(Executed::Deferred(Cost::Signature));
    }
    match (&key, request.signer) {
        (Some(key), _) => context.with_material(permission, key, |material| match material {
            Material::Secret(secret) => mechanism::verify_code(secret, mechanism, prehashed, data, signature),
            Material::Private(_) => {
                let public = PublicKey::from_spki(&key.spki)?;
                mechanism::verify(&public, mechanism, prehashed, data, signature)
            }
        }),
        (None, Signer::PublicKey(spki)) => {
            mechanism::verify(&PublicKey::from_spki(spki)?, mechanism, prehashed, data, signature)
        }
        (None, Signer::Key(_)) => Err(Denial::internal("a key was not loaded")),
    }?;
    Ok(replied(Reply::Done(Done)))
}

/// Encrypts.
pub(super) fn encrypt(
    context: &Context<'_>,
    permission: &Permission,
    request: &Encrypt<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    check_length(request.data, MAX_CRYPTO_INPUT)?;
    facts.note = request.mechanism.to_string();
    let Some(key) = context.use_key(permission, request.key, Attribute::Encrypt, facts)? else {
        return Ok(Executed::Deferred(Cost::Lookup));
    };
    require_pkcs1(&key, request.mechanism)?;
    if context.is_to_defer(&key, key.is_slow(), request.data) {
        return Ok(Executed::Deferred(Cost::Signature));
    }
    let nonce = || locked(&context.engine.nonces).next(request.key);
    let encrypted = context.with_material(permission, &key, |material| {
        mechanism::encrypt(material, request.mechanism, request.iv, request.data, nonce)
    })?;
    Ok(replied(Reply::Ciphertext(encrypted)))
}

/// Decrypts.
pub(super) fn decrypt(
    context: &Context<'_>,
    permission: &Permission,
    request: &Decrypt<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    check_length(request.data, MAX_CRYPTO_INPUT + MAX_EXPANSION)?;
    facts.note = request.mechanism.to_string();
    let Some(key) = context.use_key(permission, request.key, Attribute::Decrypt, facts)? else {
        return Ok(Executed::Deferred(Cost::Lookup));
    };
    require_pkcs1(&key, request.mechanism)?;
    if context.is_to_defer(&key, key.is_slow(), request.data) {
        return Ok(Executed::Deferred(Cost::Signature));
    }
    let bytes = context.with_material(permission, &key, |material| {
        mechanism::decrypt(material, request.mechanism, request.iv, request.data)
    })?;
    Ok(replied(Reply::Plaintext(Plaintext { bytes })))
}

/// Hashes; no key is used.
pub(super) fn digest(
    context: &Context<'_>,
    request: &Digest<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    check_length(request.data, MAX_CRYPTO_INPUT)?;
    facts.note = request.hash.to_string();
    if context.is_long(false, request.data) {
        return Ok(Executed::Deferred(Cost::Signature));
    }
    let bytes = mechanism::digest(request.hash, request.data).as_ref().to_vec();
    Ok(replied(Reply::Digest(DigestValue { bytes })))
}

impl Context<'_> {
    /// The key, if it is for `usage`; none if loading it takes a worker.
    pub(super) fn use_key(
        &self,
        permission: &Permission,
        id: KeyId,
        usage: Attribute,
        facts: &mut Facts,
    ) -> Result<Option<Arc<LoadedKey>>, Denial> {
        let cached = self.engine.cached_by_id(permission.actor()?, id);
        let Some(key) = self.key(cached, permission, &KeySelector::Id(id))? else { return Ok(None) };
        facts.key = Some(id);
        facts.label = Some(key.info.label.to_string());
        attributes::require(&key.info, usage)?;
        Ok(Some(key))
    }

    /// Whether what uses no key's secret has to be left to a worker.
    fn is_long(&self, is_slow: bool, data: &[u8]) -> bool {
        matches!(self.place, Place::Loop(..)) && (is_slow || data.len() > MAX_INLINE_MESSAGE)
    }
}

/// RSAES-PKCS1-v1_5 is for keys whose maker asked for it.
fn require_pkcs1(key: &LoadedKey, mechanism: CipherMechanism<'_>) -> Result<(), Denial> {
    match mechanism {
        CipherMechanism::RsaPkcs1 => attributes::require(&key.info, Attribute::Pkcs1Decrypt),
        _ => Ok(()),
    }
}

fn check_length(data: &[u8], most: usize) -> Result<(), Denial> {
    if data.len() <= most {
        Ok(())
    } else {
        Err(Denial::malformed(format!("an input has at most {MAX_CRYPTO_INPUT} bytes; hash it, or cut it")))
    }
}

fn replied(reply: Reply) -> Executed {
    Executed::Replied(reply, SessionChange::Keep)
}
