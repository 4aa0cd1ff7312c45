//! What the store's records hold, as postcard inside their seal (`seal.rs` has its bytes).

use keycore_store::{Kind, RecordId};
use keycore_wire::{
    IdempotencyKey, KeyId, KeyInfo, QuorumService, Role, Secret, SpkiSha256, UnixMillis, UserId, UserName,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::options::Now;

/// The wrapped cluster key; see `cluster.rs`. Not sealed like the others: it is what their seal comes from.
pub(crate) const CLUSTER: Kind = Kind(1);

/// Id of a record that its kind has one of.
pub(crate) const ONLY: RecordId = RecordId([0; 16]);

/// Content of one kind of record.
pub(crate) trait Content: Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;
}

/// A user; the record's id is the user's.
#[derive(Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: UserName,
    pub(crate) role: Role,
    pub(crate) password: Option<PasswordHash>,
    /// The uid whose processes log in without a password.
    pub(crate) peer_uid: Option<u32>,
    /// What signs login challenges, and what signs approvals.
    pub(crate) second_factor: Option<VerifyingKey>,
    pub(crate) approval_key: Option<VerifyingKey>,
    /// Counts the passwords that were set: sessions of an earlier one have ended.
    pub(crate) credential: u64,
    /// Passwords tried since the last right one, counted before each is checked.
    pub(crate) attempts: u8,
    /// When the last of them was.
    pub(crate) last_attempt: UnixMillis,
    pub(crate) created_at: UnixMillis,
    /// The request that made it, and whose that was.
    pub(crate) made_by: Option<(UserId, IdempotencyKey)>,
}

impl User {
    /// What `credential` is until a credential changes.
    pub(crate) const FIRST_CREDENTIAL: u64 = 1;

    /// A user without credentials.
    pub(crate) fn new(name: UserName, role: Role, now: Now) -> Self {
        Self {
            name,
            role,
            password: None,
            peer_uid: None,
            second_factor: None,
            approval_key: None,
            credential: Self::FIRST_CREDENTIAL,
            attempts: 0,
            last_attempt: UnixMillis(0),
            created_at: now.wall,
            made_by: None,
        }
    }
}

impl Content for User {
    const KIND: Kind = Kind(2);
}

/// A public key that a user proved to have the private half of; DER SubjectPublicKeyInfo.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerifyingKey(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

/// An Argon2id hash (RFC 9106) and what it was made with.
#[derive(Serialize, Deserialize)]
pub(crate) struct PasswordHash {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) salt: [u8; 16],
    pub(crate) hash: [u8; 32],
}

/// A session that was logged out; the record's id is the session's.
#[derive(Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// When the token would have expired: from then on the record is needless.
    pub(crate) expires_at: UnixMillis,
}

impl Content for Revocation {
    const KIND: Kind = Kind(3);
}

/// What everybody who may know of a key may know; the record's id is the key's.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PublicKeyPart {
    pub(crate) info: KeyInfo,
    /// DER SubjectPublicKeyInfo; empty for a secret key.
    #[serde(with = "serde_bytes")]
    pub(crate) spki: Vec<u8>,
    /// The request that made it.
    pub(crate) made_by: IdempotencyKey,
    /// Other crypto users who may use it.
    pub(crate) shares: Vec<UserId>,
    /// The session that it ends with; none for a token key.
    pub(crate) session: Option<[u8; 16]>,
}

impl Content for PublicKeyPart {
    const KIND: Kind = Kind(4);
}

/// The secret half, of the same id and always written in the same commit; a list never unseals it.
#[derive(Serialize, Deserialize)]
pub(crate) struct SecretKeyPart {
    /// DER PKCS#8 of a private key, or the bytes of a secret key.
    pub(crate) secret: Secret,
}

impl Content for SecretKeyPart {
    const KIND: Kind = Kind(5);
}

/// A share, as its sharee finds it. That it holds says the key's own record.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyShare {
    pub(crate) key: KeyId,
    pub(crate) user: UserId,
    pub(crate) spki: Option<SpkiSha256>,
}

impl Content for KeyShare {
    const KIND: Kind = Kind(16);
}

/// The keys of one session; the record's id is the session's.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionKeys {
    pub(crate) user: UserId,
    pub(crate) credential: u64,
    pub(crate) expires_at: UnixMillis,
    pub(crate) keys: Vec<KeyId>,
}

impl Content for SessionKeys {
    const KIND: Kind = Kind(17);
}

/// When a rotated key is to be deleted; the record's id is the key's.
#[derive(Serialize, Deserialize)]
pub(crate) struct Retirement {
    pub(crate) until: UnixMillis,
}

impl Content for Retirement {
    const KIND: Kind = Kind(18);
}

/// Counts logins under names that nobody has, so that they cost the same write as those of real users.
#[derive(Serialize, Deserialize)]
pub(crate) struct StrayLogins {
    pub(crate) count: u64,
}

impl Content for StrayLogins {
    const KIND: Kind = Kind(6);
}

/// How many approvals what needs.
#[derive(Serialize, Deserialize)]
pub(crate) struct QuorumSettings {
    pub(crate) user: u8,
    pub(crate) cluster: u8,
    pub(crate) quorum: u8,
    pub(crate) timeout_secs: u32,
    pub(crate) self_approval: bool,
}

impl Content for QuorumSettings {
    const KIND: Kind = Kind(24);
}

/// A proposal that gathers approvals; the record's id is the token's.
#[derive(Serialize, Deserialize)]
pub(crate) struct QuorumProposal {
    pub(crate) service: QuorumService,
    pub(crate) proposer: UserId,
    /// The login that it was made in, and dies with.
    pub(crate) session: [u8; 16],
    /// SHA-256 of the operation in words.
    pub(crate) operation: [u8; 32],
    /// What approvers sign.
    pub(crate) text: String,
    pub(crate) expires_at: UnixMillis,
    /// Who signed, and with which key.
    pub(crate) approvals: Vec<(UserId, SpkiSha256)>,
}

impl Content for QuorumProposal {
    const KIND: Kind = Kind(25);
}

/// A proposal about keys; the record's id is the token's.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyProposal {
    /// Those whose values it needs.
    pub(crate) keys: Vec<KeyId>,
    pub(crate) proposal: QuorumProposal,
}

impl Content for KeyProposal {
    const KIND: Kind = Kind(26);
}

/// That a user may use a key which asks for approvals.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyMember {
    pub(crate) key: KeyId,
    pub(crate) user: UserId,
}

impl Content for KeyMember {
    const KIND: Kind = Kind(27);
}

#[cfg(test)]
mod tests {
    use core::fmt::Debug;

    use super::*;

    /// Does not compile for a type that has `Debug`: two traits would fit.
    trait HasNoDebug<Marker> {
        fn check() {}
    }
    struct Printable;
    impl<T: ?Sized> HasNoDebug<()> for T {}
    impl<T: ?Sized + Debug> HasNoDebug<Printable> for T {}

    #[test]
    fn nothing_secret_can_be_printed() {
        <SecretKeyPart as HasNoDebug<_>>::check();
        <PasswordHash as HasNoDebug<_>>::check();
        <User as HasNoDebug<_>>::check();
        <crate::UnsealSecret as HasNoDebug<_>>::check();
        <crate::Job as HasNoDebug<_>>::check();
        <crate::Answer as HasNoDebug<_>>::check();
        <crate::seal::SealingKeys as HasNoDebug<_>>::check();
        <crate::private_key::PrivateKey as HasNoDebug<_>>::check();
        <crate::material::Material as HasNoDebug<_>>::check();
        <crate::key_cache::LoadedKey as HasNoDebug<_>>::check();
    }
}
