//! Public keys of users: what signs approvals, and what is a second factor. The private halves are never here.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use keycore_wire::{
    KeyPurpose, MAX_OWN_KEY, RefusalCode, Role, UserId, UserInfo, UserRegisterKey, UserRemoveKey,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::login::{self, Checked};
use crate::options::Now;
use crate::policy::Permission;
use crate::private_key::spki_sha256;
use crate::quorum::{
    self,
    reach::{self, Loss},
};
use crate::records::{User, VerifyingKey};
use crate::session::Session;
use crate::snapshot::{KnownUser, user_record};
use crate::users::{acting, find, put};

/// Beginnings of SubjectPublicKeyInfo (RFC 5480, RFC 8410), up to the key itself.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The algorithm of an RSA key (RFC 3279), which follows four bytes of length.
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

impl VerifyingKey {
    /// Whether `signature` is this key's of `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Denial> {
        let bad = |reason: &'static str| {
            Denial::new(RefusalCode::BadSignature, "the signature does not verify").because(reason)
        };
        if signature.len() > MAX_OWN_KEY || self.0.len() > MAX_OWN_KEY {
            return Err(bad("too long"));
        }
        let (algorithm, key): (&dyn VerificationAlgorithm, &[u8]) =
            if let Some(point) = self.0.strip_prefix(P256) {
                (&ECDSA_P256_SHA256_ASN1, point)
            } else if let Some(key) = self.0.strip_prefix(ED25519_SPKI) {
                (&ED25519, key)
            } else if self.0.get(4..).is_some_and(|rest| rest.starts_with(RSA)) {
                (&RSA_PKCS1_2048_8192_SHA256, &self.0)
            } else {
                return Err(Denial::new(
                    RefusalCode::BadSignature,
                    "a registered key is RSA of 2,048 bits or more, P-256 or Ed25519",
                ));
            };
        UnparsedPublicKey::new(algorithm, key)
            .verify(message, signature)
            .map_err(|_| bad("not a signature of this text by this key"))
    }
}

/// Registers one's own key. Returns the session that this connection goes on with; others end with a new second factor.
pub(crate) fn register(
    engine: &Engine,
    permission: &Permission,
    request: &UserRegisterKey,
    session: &Session,
    now: Now,
) -> Result<(UserInfo, Session), Denial> {
    let actor = permission.actor()?;
    let user = engine.transact(|records| records.load::<User>(user_record(actor)))?;
    let user = user.ok_or_else(|| Denial::session_ended("the user was deleted"))?.content;
    let key = VerifyingKey(request.spki.clone());
    let text = request.purpose.registration(engine.sealing()?.cluster(), &user.name, spki_sha256(&key.0));
    key.verify(text.as_bytes(), &request.proof)?;
    let credential = if user.password.is_some() {
        let Some(current) = &request.current else {
            return Err(Denial::bad_credentials("no current password was given"));
        };
        let _turn = engine.login_turn(user.name.as_str());
        let Checked { credential, .. } = login::check_password(engine, &user.name, current.expose(), now)?;
        credential
    } else {
        user.credential
    };
    engine.transact(|records| {
        let mut user = records.load::<User>(user_record(actor))?.ok_or_else(Denial::no_user)?;
        if user.content.credential != credential {
            return Err(Denial::bad_credentials("the credentials were changed meanwhile"));
        }
        match request.purpose {
            KeyPurpose::Approval => user.content.approval_key = Some(key.clone()),
            KeyPurpose::SecondFactor => {
                user.content.second_factor = Some(key.clone());
                user.content.credential += 1;
            }
        }
        put(records, actor, Some(user.version), &user.content)?;
        let info = KnownUser::from(&user.content).info(actor);
        Ok((info, (*session).with_credential(user.content.credential)))
    })
}

/// Takes a key away, one's own or another's.
pub(crate) fn remove(
    engine: &Engine,
    permission: &Permission,
    request: &UserRemoveKey,
) -> Result<UserInfo, Denial> {
    let actor = permission.actor()?;
    engine.transact_as(permission, |records| {
        acting(records, actor)?;
        let mut user = find(records, &request.name)?.ok_or_else(Denial::no_user)?;
        let id = UserId(user.id.0);
        let removed = match request.purpose {
            KeyPurpose::Approval => user.content.approval_key.take(),
            KeyPurpose::SecondFactor => user.content.second_factor.take(),
        };
        if removed.is_none() {
            return Err(Denial::new(RefusalCode::NotFound, "the user has no such key"));
        }
        if request.purpose == KeyPurpose::Approval {
            match user.content.role {
                Role::Admin => quorum::check_reachable_without(records, id)?,
                Role::CryptoUser => reach::check_keys_of(records, id, Loss::ApprovalKey(id))?,
                Role::ApplianceUser => {}
            }
        }
        put(records, id, Some(user.version), &user.content)?;
        Ok(KnownUser::from(&user.content).info(id))
    })
}

/// Which key was registered for what, for the audit log.
pub(crate) fn registered(info: &UserInfo, purpose: KeyPurpose) -> String {
    let key = match purpose {
        KeyPurpose::Approval => info.approval_key,
        KeyPurpose::SecondFactor => info.second_factor,
    };
    format!("{} key {}", purpose.name(), key.map(|key| key.to_string()).unwrap_or_default())
}
