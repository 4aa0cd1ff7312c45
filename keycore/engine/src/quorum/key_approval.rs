//! Approvals for a single key: of those who may use it, as many as its own values say.
//!
//! The value is part of the key, so a use of a key without one costs a comparison. With one, the proposal is looked for before
//! the key is used, and deleted before what came of it is told, in the transaction that keeps it if there is one.

use keycore_store::{GroupTag, RecordId};
use keycore_wire::{
    Attribute, AttributeChange, KeyId, KeyInfo, KeySelector, QuorumService, QuorumToken, QuorumTokenId,
    RefusalCode, Request, Role, TlsSignTimed, UserId, UserName,
};

use super::{
    NewProposal, Proposal, check_alive, not_needed, operation_tag, required, settings, user_name, words,
};
use crate::denial::Denial;
use crate::engine::Engine;
use crate::keys;
use crate::ledger::{Opened, Transaction};
use crate::options::Now;
use crate::policy::Permission;
use crate::private_key::sha256;
use crate::records::{KeyProposal, PublicKeyPart, QuorumProposal, QuorumSettings, User};
use crate::seal::{SealingKeys, TagOf};
use crate::session::Session;

/// Proposals about keys at a time: of one user, so that none keeps the others from making theirs, and in the whole cluster.
const MAX_USER_PROPOSALS: usize = 16;
const MAX_PROPOSALS: usize = 1024;

/// Which value of a key an operation asks for; the table of docs/quorum.md.
pub(crate) fn service_of(request: &Request<'_>) -> Option<QuorumService> {
    match request {
        Request::SetAttribute(set) if matches!(set.change, AttributeChange::Set(Attribute::Trusted, _)) => {
            None
        }
        Request::SetAttribute(_)
        | Request::ShareKey(_)
        | Request::UnshareKey(_)
        | Request::RotateKey(_)
        | Request::DeleteKey(_)
        | Request::WrapKey(_)
        | Request::UnwrapKey(_) => Some(QuorumService::KeyManagement),
        Request::TlsSign(_)
        | Request::TlsSignTimed(_)
        | Request::Sign(_)
        | Request::SignData(_)
        | Request::Encrypt(_)
        | Request::Decrypt(_)
        | Request::DeriveKey(_) => Some(QuorumService::KeyUsage),
        _ => None,
    }
}

/// Whether an operation on a key takes approvals.
pub(crate) fn is_guarded(request: &Request<'_>, key: &KeyInfo) -> bool {
    // Most keys have no values: the operation is not even looked at.
    key.quorum_usage.max(key.quorum_management) > 1
        && service_of(request).is_some_and(|service| value(key, service) > 1)
}

/// Enough approvals to use or change keys, or none needed. Made here only; whoever unseals a key's secret demands one.
pub(crate) struct KeyApproval {
    keys: Vec<KeyId>,
    proposal: Option<RecordId>,
}

impl KeyApproval {
    /// Looks for the approvals of what is asked, if it takes some.
    ///
    /// # Errors
    ///
    /// `QuorumRequired`.
    pub(crate) fn find(asked: &Proposal<'_>, key: &KeyInfo) -> Result<Self, Denial> {
        if is_guarded(asked.request, key) {
            asked.engine.transact(|records| Self::find_in(records, asked, key))
        } else {
            Ok(Self { keys: Vec::new(), proposal: None })
        }
    }

    /// The same, and uses them up, in the transaction that changes the key.
    pub(crate) fn take(
        records: &mut Transaction<'_>,
        asked: &Proposal<'_>,
        key: &KeyInfo,
    ) -> Result<(), Denial> {
        if is_guarded(asked.request, key) {
            Self::find_in(records, asked, key)?.spend(records, asked)
        } else {
            Ok(())
        }
    }

    fn find_in(records: &mut Transaction<'_>, asked: &Proposal<'_>, key: &KeyInfo) -> Result<Self, Denial> {
        let session = asked.caller.session.as_ref().ok_or_else(Denial::not_logged_in)?;
        let operation = sha256(words::of(asked.request).as_bytes());
        let tag = operation_tag(records.keys(), session, &operation);
        let found = records.find(&tag, |found: &KeyProposal| found.proposal.operation == operation)?;
        let found = found.ok_or_else(|| required("no token"))?;
        let approval = Self { keys: vec![key.id], proposal: Some(found.id) };
        approval.enough(records, &found.content.proposal, asked)?;
        Ok(approval)
    }

    /// Also for what another key takes in the same operation, whose token is the same.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self.proposal = self.proposal.or(other.proposal);
        self
    }

    /// Uses them up. Looks at them once more: they may be used or withdrawn since.
    pub(crate) fn spend(&self, records: &mut Transaction<'_>, asked: &Proposal<'_>) -> Result<(), Denial> {
        let Some(id) = self.proposal else { return Ok(()) };
        let found = records.load::<KeyProposal>(id)?.ok_or_else(|| required("the token was used"))?;
        let names = self.enough(records, &found.content.proposal, asked)?;
        records.delete::<KeyProposal>(found.id, found.version);
        let names: Vec<_> = names.iter().map(UserName::as_str).collect();
        let by = format!("approved by {} (token {})", names.join(", "), QuorumTokenId(id.0));
        *asked.approved.borrow_mut() = Some(by);
        Ok(())
    }

    /// Uses them up in a transaction of its own, before what came of the key's use is told.
    pub(crate) fn spend_now(&self, asked: &Proposal<'_>) -> Result<(), Denial> {
        match self.proposal {
            Some(_) => asked.engine.transact(|records| self.spend(records, asked)),
            None => Ok(()),
        }
    }

    /// Those who approved, if they are enough for each key and the proposal is alive.
    fn enough(
        &self,
        records: &mut Transaction<'_>,
        proposal: &QuorumProposal,
        asked: &Proposal<'_>,
    ) -> Result<Vec<UserName>, Denial> {
        if check_alive(records, proposal, asked.now).is_err() {
            return Err(required("its token ended"));
        }
        let settings = settings(records)?;
        let mut all = Vec::new();
        for key in &self.keys {
            let key = keys::find_anybodys(records, *key)?.content;
            let names = approving_users(records, proposal, &key, &settings)?;
            if names.len() < usize::from(value(&key.info, proposal.service)) {
                return Err(required("too few approvals"));
            }
            all.extend(names);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

/// Makes the token of an operation on keys that the proposer may use, or finds the one that this session made before.
pub(super) fn propose(
    engine: &Engine,
    permission: &Permission,
    operation: &Request<'_>,
    session: &Session,
    now: Now,
) -> Result<QuorumToken, Denial> {
    let proposer = permission.actor()?;
    let service = service_of(operation).ok_or_else(not_needed)?;
    let said = words::of(operation);
    let digest = sha256(said.as_bytes());
    engine.transact(|records| {
        crate::users::acting(records, proposer)?;
        let guarded = guarded_keys(records, permission, operation, service)?;
        if guarded.is_empty() {
            return Err(not_needed());
        }
        let settings = settings(records)?;
        let tag = operation_tag(records.keys(), session, &digest);
        let alive = prune(records, now)?;
        if let Some(made) = records.find(&tag, |found: &KeyProposal| found.proposal.operation == digest)? {
            if alive.iter().any(|(id, _)| *id == made.id) {
                return token(records, made.id, &made.content, &settings);
            }
        } else {
            let own = alive.iter().filter(|(_, user)| *user == proposer).count();
            if own >= MAX_USER_PROPOSALS || alive.len() >= MAX_PROPOSALS {
                let detail = "too many proposals wait for approval; delete some, or wait until they end";
                return Err(Denial::new(RefusalCode::LimitReached, detail));
            }
        }
        let needs = guarded.iter().map(|key| {
            let (value, id, label) = (value(key, service), key.id, &key.label);
            format!("needs: {value} approvals for {service} of key {id} {label}\n")
        });
        let needs = needs.collect::<String>();
        let new = NewProposal { service, proposer, session, operation: digest, now };
        let (id, proposal) = new.write(records, &settings, &(needs + &said))?;
        let made = KeyProposal { keys: guarded.iter().map(|key| key.id).collect(), proposal };
        let group = proposer_group(records.keys(), proposer);
        records.put(id, None, &made, vec![tag], Some(group))?;
        token(records, id, &made, &settings)
    })
}

/// Whether a proposal can still be used, and concerns who asks.
pub(super) fn check(
    records: &mut Transaction<'_>,
    user: UserId,
    made: &KeyProposal,
    now: Now,
) -> Result<(), Denial> {
    check_concerned(records, user, made)?;
    check_alive(records, &made.proposal, now)
}

/// Takes the signature of an approver, who may use one of the keys.
pub(super) fn approve(
    records: &mut Transaction<'_>,
    mut found: Opened<KeyProposal>,
    approver: &Opened<User>,
    signature: &[u8],
) -> Result<QuorumToken, Denial> {
    let settings = settings(records)?;
    let id = UserId(approver.id.0);
    if !is_concerned(records, id, &found.content)? {
        let detail =
            "only who may use the key approves what is done with it: its owner, and whom it is shared with";
        return Err(Denial::new(RefusalCode::PermissionDenied, detail));
    }
    let proposal = &mut found.content.proposal;
    super::add_signature(proposal, approver, Role::CryptoUser, signature, &settings)?;
    let tag = super::tag_of(records.keys(), proposal);
    let group = proposer_group(records.keys(), proposal.proposer);
    records.put(found.id, Some(found.version), &found.content, vec![tag], Some(group))?;
    token(records, found.id, &found.content, &settings)
}

/// The proposals about keys that `user` may use.
pub(super) fn list(
    records: &mut Transaction<'_>,
    user: UserId,
    now: Now,
) -> Result<Vec<QuorumToken>, Denial> {
    let settings = settings(records)?;
    let mut tokens = Vec::new();
    for found in records.scan::<KeyProposal>(None, None, MAX_PROPOSALS)? {
        if check_alive(records, &found.content.proposal, now).is_ok()
            && is_concerned(records, user, &found.content)?
        {
            tokens.push(token(records, found.id, &found.content, &settings)?);
        }
    }
    Ok(tokens)
}

/// The keys of an operation whose value it takes. Those that the proposer can't find, or would manage without being their
/// owner, are refused as the operation itself would be.
fn guarded_keys(
    records: &mut Transaction<'_>,
    permission: &Permission,
    operation: &Request<'_>,
    service: QuorumService,
) -> Result<Vec<KeyInfo>, Denial> {
    let (used, owned) = match operation {
        Request::SetAttribute(set) => (None, Some(set.key)),
        Request::ShareKey(share) => (None, Some(share.key)),
        Request::UnshareKey(unshare) => (None, Some(unshare.key)),
        Request::RotateKey(rotate) => (None, Some(rotate.key)),
        Request::DeleteKey(delete) => (None, Some(delete.key)),
        Request::WrapKey(wrap) => (Some(KeySelector::Id(wrap.wrapping)), Some(wrap.key)),
        Request::UnwrapKey(unwrap) => (Some(KeySelector::Id(unwrap.unwrapping)), None),
        Request::TlsSign(sign) | Request::TlsSignTimed(TlsSignTimed(sign)) => {
            (Some(KeySelector::SpkiSha256(sign.key)), None)
        }
        Request::Sign(sign) => (Some(KeySelector::Id(sign.key)), None),
        Request::SignData(sign) => (Some(KeySelector::Id(sign.key)), None),
        Request::Encrypt(encrypt) => (Some(KeySelector::Id(encrypt.key)), None),
        Request::Decrypt(decrypt) => (Some(KeySelector::Id(decrypt.key)), None),
        Request::DeriveKey(derive) => (Some(KeySelector::Id(derive.key)), None),
        _ => (None, None),
    };
    let mut found = Vec::new();
    if let Some(selector) = used {
        found.push(keys::find(records, permission, &selector)?.content.info);
    }
    if let Some(id) = owned {
        found.push(keys::find_own(records, permission, &KeySelector::Id(id))?.content.info);
    }
    found.retain(|key| value(key, service) > 1);
    Ok(found)
}

/// The approvers of what is done with a key: those who may use it.
fn approving_users(
    records: &mut Transaction<'_>,
    proposal: &QuorumProposal,
    key: &PublicKeyPart,
    settings: &QuorumSettings,
) -> Result<Vec<UserName>, Denial> {
    super::approvers(records, proposal, settings, Role::CryptoUser, |user| may_use(key, user))
}

fn token(
    records: &mut Transaction<'_>,
    id: RecordId,
    made: &KeyProposal,
    settings: &QuorumSettings,
) -> Result<QuorumToken, Denial> {
    let KeyProposal { keys, proposal } = made;
    let (mut needed, mut names) = (0, Vec::new());
    for key in keys {
        let Some(key) = keys::find_if_there(records, *key)? else { continue };
        needed = needed.max(value(&key.content.info, proposal.service));
        names.extend(approving_users(records, proposal, &key.content, settings)?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(QuorumToken {
        id: QuorumTokenId(id.0),
        service: proposal.service,
        proposer: user_name(records, proposal.proposer)?,
        text: proposal.text.clone(),
        needed,
        approvers: names,
        expires_at: proposal.expires_at,
    })
}

/// Deletes the dead, and tells who lives, and whose they are.
fn prune(records: &mut Transaction<'_>, now: Now) -> Result<Vec<(RecordId, UserId)>, Denial> {
    let mut alive = Vec::new();
    for found in records.scan::<KeyProposal>(None, None, MAX_PROPOSALS)? {
        match check_alive(records, &found.content.proposal, now) {
            Ok(()) => alive.push((found.id, found.content.proposal.proposer)),
            Err(_) => records.delete::<KeyProposal>(found.id, found.version),
        }
    }
    Ok(alive)
}

/// To others a key does not exist, and neither do its proposals.
pub(super) fn check_concerned(
    records: &mut Transaction<'_>,
    user: UserId,
    made: &KeyProposal,
) -> Result<(), Denial> {
    if is_concerned(records, user, made)? {
        return Ok(());
    }
    Err(Denial::new(RefusalCode::NotFound, "no such token").because("it is about others' keys"))
}

fn is_concerned(records: &mut Transaction<'_>, user: UserId, made: &KeyProposal) -> Result<bool, Denial> {
    for key in &made.keys {
        if keys::find_if_there(records, *key)?.is_some_and(|key| may_use(&key.content, user)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn may_use(key: &PublicKeyPart, user: UserId) -> bool {
    key.info.owner == user || key.shares.contains(&user)
}

fn value(key: &KeyInfo, service: QuorumService) -> u8 {
    match service {
        QuorumService::KeyManagement => key.quorum_management,
        QuorumService::KeyUsage => key.quorum_usage,
        QuorumService::User | QuorumService::Cluster | QuorumService::Quorum => 1,
    }
}

fn proposer_group(keys: &SealingKeys, proposer: UserId) -> GroupTag {
    keys.group_tag(TagOf::KeyProposer, &proposer.0)
}
