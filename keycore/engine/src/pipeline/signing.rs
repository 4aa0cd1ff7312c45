//! Signatures: find the key, take the message for signable, sign.

use std::sync::Arc;

use keycore_wire::{
    KeySelector, MAX_SIGN_MESSAGE, MAX_SITE, MAX_TLS_MESSAGE, Reply, Sign, Signature, TimedSignature, TlsSign,
};

use super::record::Facts;
use super::{Context, Executed, Place};
use crate::denial::Denial;
use crate::job::{Cost, Leisure};
use crate::key_cache::LoadedKey;
use crate::keys;
use crate::material::Material;
use crate::policy::Permission;
use crate::quorum::{self, KeyApproval};
use crate::session::SessionChange;
use crate::signable::Signable;

/// Longest message that is hashed on the event loop, in bytes; a longer one takes longer than its signature.
pub(super) const MAX_INLINE_MESSAGE: usize = 4 * 1024;

/// Signs a handshake with a TLS-bound key.
pub(super) fn tls_sign(
    context: &Context<'_>,
    permission: &Permission,
    request: &TlsSign<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    if request.message.len() > MAX_TLS_MESSAGE || request.site.len() > MAX_SITE {
        return Err(Denial::malformed(format!(
            "a handshake has at most {MAX_TLS_MESSAGE} bytes, a site's name {MAX_SITE}"
        )));
    }
    let cached = context.engine.cached_by_spki(permission.actor()?, request.key);
    let Some(key) = context.key(cached, permission, &KeySelector::SpkiSha256(request.key))? else {
        return Ok(Executed::Deferred(Cost::Lookup));
    };
    facts.key = Some(key.info.id);
    let signable = Signable::handshake(&key, request.scheme, request.message)?;
    context.sign(permission, &key, &signable)
}

impl Executed {
    /// Makes room in a signature for its times, which are known to whoever has a clock.
    pub(super) fn timed(self) -> Self {
        match self {
            Self::Replied(Reply::Signature(Signature { bytes }), session) => {
                let untimed = TimedSignature { bytes, queued_us: 0, computing_us: 0 };
                Self::Replied(Reply::TimedSignature(untimed), session)
            }
            other => other,
        }
    }
}

/// Signs a message.
pub(super) fn sign_message(
    context: &Context<'_>,
    permission: &Permission,
    request: &Sign<'_>,
    facts: &mut Facts,
) -> Result<Executed, Denial> {
    if request.message.len() > MAX_SIGN_MESSAGE {
        return Err(Denial::malformed(format!("a message to sign has at most {MAX_SIGN_MESSAGE} bytes")));
    }
    let cached = context.engine.cached_by_id(permission.actor()?, request.key);
    let Some(key) = context.key(cached, permission, &KeySelector::Id(request.key))? else {
        return Ok(Executed::Deferred(Cost::Lookup));
    };
    facts.key = Some(key.info.id);
    let signable = Signable::message(&key, request.scheme, request.message)?;
    context.sign(permission, &key, &signable)
}

impl Context<'_> {
    /// The key from the cache, or on a worker from the store; none if it takes a worker.
    pub(super) fn key(
        &self,
        cached: Option<Arc<LoadedKey>>,
        permission: &Permission,
        selector: &KeySelector,
    ) -> Result<Option<Arc<LoadedKey>>, Denial> {
        match (cached, self.place) {
            (Some(key), _) => Ok(Some(key)),
            (None, Place::Loop(..)) => Ok(None),
            (None, Place::Worker) => keys::load(self.engine, permission, selector).map(Some),
        }
    }

    fn sign(
        &self,
        permission: &Permission,
        key: &LoadedKey,
        signable: &Signable<'_>,
    ) -> Result<Executed, Denial> {
        let is_slow = key.is_slow() && !(self.has_leisure() && key.takes_a_moment());
        if self.is_to_defer(key, is_slow, signable.content()) {
            return Ok(Executed::Deferred(Cost::Signature));
        }
        let bytes = self.with_material(permission, key, |material| match material {
            Material::Private(private) => Ok(private.sign(signable.scheme(), signable.content())?),
            Material::Secret(_) => Err(Denial::internal("a secret key was found to have a signature scheme")),
        })?;
        Ok(Executed::Replied(Reply::Signature(Signature { bytes }), SessionChange::Keep))
    }

    fn has_leisure(&self) -> bool {
        matches!(self.place, Place::Loop(_, Leisure::Idle))
    }

    /// Whether an operation that uses a key's secret has to be left to a worker.
    pub(super) fn is_to_defer(&self, key: &LoadedKey, is_slow: bool, data: &[u8]) -> bool {
        matches!(self.place, Place::Loop(..))
            && (is_slow
                || data.len() > MAX_INLINE_MESSAGE
                || quorum::is_guarded(self.asked.request, &key.info))
    }

    /// Does what a key's secret is needed for. If that takes approvals, they are looked for before, and used up before what
    /// came of it is told; what fails leaves them.
    pub(super) fn with_material<T>(
        &self,
        permission: &Permission,
        key: &LoadedKey,
        work: impl FnOnce(&Material) -> Result<T, Denial>,
    ) -> Result<T, Denial> {
        let approval = KeyApproval::find(self.asked, &key.info)?;
        let done = work(key.material(permission, &approval)?)?;
        approval.spend_now(self.asked)?;
        Ok(done)
    }
}
