//! M of N: what needs other admins' approval, and how it is gathered. `docs/quorum.md` is its manual.
//!
//! A proposal is made for one operation with its arguments, in one login session. Approvers sign its text, which says the
//! operation in words. When there are enough signatures, the same operation, sent in that session, finds its proposal and
//! deletes it in the transaction that does what was approved: so it is used once.

use std::cell::RefCell;

use aws_lc_rs::rand;
use keycore_store::{IndexTag, RecordId};
use keycore_wire::{
    MAX_QUORUM, QuorumApprove, QuorumDelete, QuorumPropose, QuorumRules, QuorumService, QuorumSetPolicy,
    QuorumSetValue, QuorumToken, QuorumTokenId, QuorumTokens, RefusalCode, Request, Role, UserId, UserName,
};

use crate::denial::Denial;
use crate::engine::Engine;
use crate::ledger::{Opened, Transaction};
use crate::options::Now;
use crate::policy::{self, Action, Asker, Permission};
use crate::private_key::{sha256, spki_sha256};
use crate::records::{KeyProposal, ONLY, QuorumProposal, QuorumSettings, Revocation, User};
use crate::seal::{SealingKeys, TagOf};
use crate::session::{Caller, Session};
use crate::snapshot::user_record;
use crate::users::{self, acting, admins, find};

mod key_approval;
pub(crate) mod reach;
mod words;

pub(crate) use key_approval::{KeyApproval, is_guarded};

/// Proposals at a time, in the whole cluster.
const MAX_PROPOSALS: usize = 256;

/// Seconds that a token may last.
const TIMEOUTS: core::ops::RangeInclusive<u32> = 60..=86_400;

/// What the quorum step of the pipeline looks at.
pub(crate) struct Proposal<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a Request<'a>,
    pub(crate) caller: &'a Caller,
    pub(crate) now: Now,
    /// Who approved what is done to a key, once that is known; for the audit log.
    pub(crate) approved: RefCell<Option<String>>,
}

/// Enough approvals, or none needed. Made here only.
pub(crate) struct Approval {
    service: QuorumService,
    now: Now,
    proposal: Option<RecordId>,
    approvers: Vec<UserName>,
}

impl Approval {
    /// Looks for the approvals of what is asked.
    pub(crate) fn find(service: QuorumService, asked: &Proposal<'_>) -> Result<Self, Denial> {
        let &Proposal { engine, request, caller, now, .. } = asked;
        engine.transact(|records| {
            let settings = settings(records)?;
            let mut approval = Self { service, now, proposal: None, approvers: Vec::new() };
            if settings.value(service) > 1 {
                let session = caller.session.as_ref().ok_or_else(Denial::not_logged_in)?;
                if let Request::UserCreate(create) = request
                    && users::was_made(records, session.user, create)?
                {
                    // Done before: it is answered again, and nothing is made.
                    return Ok(approval);
                }
                let operation = sha256(words::of(request).as_bytes());
                let tag = operation_tag(records.keys(), session, &operation);
                let found = records.find(&tag, |found: &QuorumProposal| found.operation == operation)?;
                let found = found.ok_or_else(|| required("no token"))?;
                approval.approvers = enough(records, &found, &settings, now)?;
                approval.proposal = Some(found.id);
            }
            Ok(approval)
        })
    }

    /// Deletes the proposal with what is done; refuses if it is not good any more.
    pub(crate) fn spend(&self, records: &mut Transaction<'_>) -> Result<(), Denial> {
        let settings = settings(records)?;
        let Some(id) = self.proposal else {
            return match settings.value(self.service) {
                ..=1 => Ok(()),
                _ => Err(required("the value was raised meanwhile")),
            };
        };
        let found = records.load::<QuorumProposal>(id)?.ok_or_else(|| required("the token was used"))?;
        enough(records, &found, &settings, self.now)?;
        records.delete::<QuorumProposal>(found.id, found.version);
        Ok(())
    }

    /// Who approved, for the audit log.
    pub(crate) fn by(&self) -> Option<String> {
        let token = QuorumTokenId(self.proposal?.0);
        let names: Vec<_> = self.approvers.iter().map(UserName::as_str).collect();
        Some(format!("approved by {} (token {token})", names.join(", ")))
    }
}

impl QuorumSettings {
    fn value(&self, service: QuorumService) -> u8 {
        match service {
            QuorumService::User => self.user,
            QuorumService::Cluster => self.cluster,
            QuorumService::Quorum => self.quorum,
            // Each key has its own.
            QuorumService::KeyManagement | QuorumService::KeyUsage => 1,
        }
    }

    /// The most approvals that anything needs.
    fn highest(&self) -> u8 {
        QuorumService::OF_CLUSTER.map(|service| self.value(service)).into_iter().max().unwrap_or(1)
    }

    fn rules(&self, approvers: usize) -> QuorumRules {
        QuorumRules {
            user: self.user,
            cluster: self.cluster,
            quorum: self.quorum,
            timeout_secs: self.timeout_secs,
            self_approval: self.self_approval,
            approvers: u32::try_from(approvers).unwrap_or(u32::MAX),
        }
    }
}

impl Default for QuorumSettings {
    fn default() -> Self {
        Self { user: 1, cluster: 1, quorum: 1, timeout_secs: 600, self_approval: false }
    }
}

/// Makes the token of an operation, or finds the one that this session made before.
pub(crate) fn propose(
    engine: &Engine,
    permission: &Permission,
    request: &QuorumPropose,
    session: &Session,
    name: Option<&UserName>,
    now: Now,
) -> Result<QuorumToken, Denial> {
    let proposer = permission.actor()?;
    let operation = Request::decode(request.operation.expose())
        .map_err(|refusal| Denial::malformed(format!("the proposed operation: {}", refusal.detail)))?;
    let action = Action::of(&operation, name);
    let asker = Asker::of(action, permission.principal());
    let Some(service) = policy::authorize(action, asker)?.service() else {
        return key_approval::propose(engine, permission, &operation, session, now);
    };
    let said = words::of(&operation);
    let digest = sha256(said.as_bytes());
    engine.transact(|records| {
        acting(records, proposer)?;
        let settings = settings(records)?;
        if settings.value(service) <= 1 {
            return Err(not_needed());
        }
        let tag = operation_tag(records.keys(), session, &digest);
        let alive = prune(records, now)?;
        if let Some(made) = records.find(&tag, |found: &QuorumProposal| found.operation == digest)? {
            if alive.contains(&made.id) {
                return token(records, &made, &settings);
            }
        } else if alive.len() >= MAX_PROPOSALS {
            return Err(Denial::new(RefusalCode::LimitReached, "too many proposals wait for approval"));
        }
        let new = NewProposal { service, proposer, session, operation: digest, now };
        let (id, made) = new.write(records, &settings, &said)?;
        records.put(id, None, &made, vec![tag], None)?;
        token(records, &Opened { id, version: keycore_store::Revision(0), content: made }, &settings)
    })
}

/// Takes an approver's signature.
pub(crate) fn approve(
    engine: &Engine,
    permission: &Permission,
    request: &QuorumApprove,
    now: Now,
) -> Result<QuorumToken, Denial> {
    let actor = permission.actor()?;
    engine.transact(|records| {
        acting(records, actor)?;
        let settings = settings(records)?;
        let approver =
            |records: &mut Transaction<'_>| find(records, &request.approver)?.ok_or_else(Denial::no_user);
        let mut found = match load(records, request.token)? {
            Found::OfCluster(found) => found,
            Found::OfKeys(found) => {
                key_approval::check(records, actor, &found.content, now)?;
                let approver = approver(records)?;
                return key_approval::approve(records, found, &approver, &request.signature);
            }
        };
        permission.require_admin()?;
        check_alive(records, &found.content, now)?;
        let approver = approver(records)?;
        add_signature(&mut found.content, &approver, Role::Admin, &request.signature, &settings)?;
        let tag = tag_of(records.keys(), &found.content);
        records.put(found.id, Some(found.version), &found.content, vec![tag], None)?;
        token(records, &found, &settings)
    })
}

/// Deletes a proposal.
pub(crate) fn delete(engine: &Engine, permission: &Permission, request: QuorumDelete) -> Result<(), Denial> {
    let actor = permission.actor()?;
    engine.transact(|records| {
        acting(records, actor)?;
        match load(records, request.token)? {
            Found::OfCluster(found) => {
                permission.require_admin()?;
                records.delete::<QuorumProposal>(found.id, found.version);
            }
            Found::OfKeys(found) => {
                key_approval::check_concerned(records, actor, &found.content)?;
                records.delete::<KeyProposal>(found.id, found.version);
            }
        }
        Ok(())
    })
}

/// The proposals that can still be used; about keys those of who asks.
pub(crate) fn list(engine: &Engine, permission: &Permission, now: Now) -> Result<QuorumTokens, Denial> {
    engine.transact(|records| {
        let settings = settings(records)?;
        let mut tokens = Vec::new();
        for found in records.scan::<QuorumProposal>(None, None, MAX_PROPOSALS)? {
            if check_alive(records, &found.content, now).is_ok() {
                tokens.push(token(records, &found, &settings)?);
            }
        }
        if let Some(principal) = permission.principal().filter(|asker| asker.role == Role::CryptoUser) {
            tokens.extend(key_approval::list(records, principal.user, now)?);
        }
        Ok(QuorumTokens { tokens })
    })
}

/// The values in force.
pub(crate) fn rules(engine: &Engine, _permission: &Permission) -> Result<QuorumRules, Denial> {
    engine.transact(|records| {
        let approvers = admins(records)?.iter().filter(|admin| admin.content.approval_key.is_some()).count();
        Ok(settings(records)?.rules(approvers))
    })
}

/// Sets a service's value.
pub(crate) fn set_value(
    engine: &Engine,
    permission: &Permission,
    request: QuorumSetValue,
) -> Result<QuorumRules, Denial> {
    if !(1..=MAX_QUORUM).contains(&request.value) {
        return Err(Denial::malformed(format!(
            "2 to {MAX_QUORUM} approvals can be asked for; 1 asks for none"
        )));
    }
    let of_key = matches!(request.service, QuorumService::KeyManagement | QuorumService::KeyUsage);
    if of_key {
        return Err(Denial::malformed("the values of a key are set when it is made"));
    }
    change(engine, permission, |settings| match request.service {
        QuorumService::User => settings.user = request.value,
        QuorumService::Cluster => settings.cluster = request.value,
        QuorumService::Quorum => settings.quorum = request.value,
        QuorumService::KeyManagement | QuorumService::KeyUsage => {}
    })
}

/// Sets how long tokens last, and who may approve.
pub(crate) fn set_policy(
    engine: &Engine,
    permission: &Permission,
    request: QuorumSetPolicy,
) -> Result<QuorumRules, Denial> {
    if request.timeout_secs.is_some_and(|secs| !TIMEOUTS.contains(&secs)) {
        return Err(Denial::malformed("a token lasts 60 to 86,400 seconds"));
    }
    change(engine, permission, |settings| {
        settings.timeout_secs = request.timeout_secs.unwrap_or(settings.timeout_secs);
        settings.self_approval = request.self_approval.unwrap_or(settings.self_approval);
    })
}

/// Whether what needs approvals can still get them once `gone` is no approver any more.
pub(crate) fn check_reachable_without(records: &mut Transaction<'_>, gone: UserId) -> Result<(), Denial> {
    let settings = settings(records)?;
    let admins: Vec<_> = admins(records)?
        .iter()
        .filter(|admin| admin.id.0 != gone.0)
        .map(|admin| admin.content.approval_key.is_some())
        .collect();
    check_reachable(&admins, &settings)
}

/// What a token is for, in one line, for the audit log.
pub(crate) fn in_words(token: &QuorumToken) -> String {
    let said = token.text.split_once("\noperation: ").map_or("", |(_, said)| said);
    format!("{} (token {})", said.trim_end().replace('\n', ","), token.id)
}

/// Some admin can gather the highest value's approvals. `admins` tells of each whether it has a registered key.
fn check_reachable(admins: &[bool], settings: &QuorumSettings) -> Result<(), Denial> {
    let needed = usize::from(settings.highest());
    let signers = admins.iter().filter(|signs| **signs).count();
    let can_propose = |signs: &bool| settings.self_approval || !signs;
    let reachable = if admins.iter().any(can_propose) { signers } else { signers.saturating_sub(1) };
    if needed > 1 && reachable < needed {
        return Err(Denial::new(
            RefusalCode::QuorumUnreachable,
            format!(
                "{needed} approvals would be needed, and {reachable} could be had: register more keys first"
            ),
        ));
    }
    Ok(())
}

fn change(
    engine: &Engine,
    permission: &Permission,
    apply: impl Fn(&mut QuorumSettings),
) -> Result<QuorumRules, Denial> {
    let actor = permission.actor()?;
    engine.transact_as(permission, |records| {
        acting(records, actor)?;
        let stored = records.load::<QuorumSettings>(ONLY)?;
        let version = stored.as_ref().map(|stored| stored.version);
        let mut settings = stored.map(|stored| stored.content).unwrap_or_default();
        apply(&mut settings);
        let admins: Vec<_> =
            admins(records)?.iter().map(|admin| admin.content.approval_key.is_some()).collect();
        check_reachable(&admins, &settings)?;
        records.put(ONLY, version, &settings, Vec::new(), None)?;
        Ok(settings.rules(admins.iter().filter(|signs| **signs).count()))
    })
}

fn settings(records: &mut Transaction<'_>) -> Result<QuorumSettings, Denial> {
    Ok(records.load::<QuorumSettings>(ONLY)?.map(|stored| stored.content).unwrap_or_default())
}

/// A proposal, and what its approvals come from.
enum Found {
    OfCluster(Opened<QuorumProposal>),
    OfKeys(Opened<KeyProposal>),
}

fn load(records: &mut Transaction<'_>, id: QuorumTokenId) -> Result<Found, Denial> {
    if let Some(found) = records.load::<QuorumProposal>(RecordId(id.0))? {
        return Ok(Found::OfCluster(found));
    }
    let found = records.load::<KeyProposal>(RecordId(id.0))?;
    found.map(Found::OfKeys).ok_or_else(|| Denial::new(RefusalCode::NotFound, "no such token"))
}

/// What a proposal is made of.
struct NewProposal<'a> {
    service: QuorumService,
    proposer: UserId,
    session: &'a Session,
    operation: [u8; 32],
    now: Now,
}

impl NewProposal<'_> {
    /// The proposal, with its text, and its id.
    fn write(
        &self,
        records: &mut Transaction<'_>,
        settings: &QuorumSettings,
        said: &str,
    ) -> Result<(RecordId, QuorumProposal), Denial> {
        let &Self { service, proposer, session, operation, now } = self;
        let mut id = [0; 16];
        rand::fill(&mut id)?;
        let (token, cluster) = (QuorumTokenId(id), records.keys().cluster());
        let expires_at = now.wall.plus(core::time::Duration::from_secs(settings.timeout_secs.into()));
        let name = user_name(records, proposer)?;
        let text = format!(
            "hsm quorum approval v1\ncluster: {cluster}\ntoken: {token}\nproposer: {name}\n\
             expires: {}\n{said}",
            expires_at.0
        );
        let (session, approvals) = (session.id, Vec::new());
        let made = QuorumProposal { service, proposer, session, operation, text, expires_at, approvals };
        Ok((RecordId(id), made))
    }
}

/// Adds an approver's signature, if it is one of the text by a user of this role.
fn add_signature(
    proposal: &mut QuorumProposal,
    approver: &Opened<User>,
    role: Role,
    signature: &[u8],
    settings: &QuorumSettings,
) -> Result<(), Denial> {
    let id = UserId(approver.id.0);
    let key = approver.content.approval_key.as_ref().filter(|_| approver.content.role == role);
    let key = key.ok_or_else(|| {
        Denial::new(RefusalCode::BadSignature, "the approver has no registered key for approvals")
    })?;
    if id == proposal.proposer && !settings.self_approval {
        return Err(Denial::new(
            RefusalCode::PermissionDenied,
            "who proposes does not approve; the policy of this cluster",
        ));
    }
    key.verify(proposal.text.as_bytes(), signature)?;
    proposal.approvals.retain(|(user, _)| *user != id);
    proposal.approvals.push((id, spki_sha256(&key.0)));
    Ok(())
}

/// A proposal ends with its time, with its proposer and with the session that it was made in.
fn check_alive(records: &mut Transaction<'_>, proposal: &QuorumProposal, now: Now) -> Result<(), Denial> {
    let dead = |why| Err(Denial::new(RefusalCode::NotFound, "no such token").because(why));
    if now.wall >= proposal.expires_at {
        return dead("it expired");
    }
    if records.load::<Revocation>(RecordId(proposal.session))?.is_some() {
        return dead("its proposer logged out");
    }
    match records.load::<User>(user_record(proposal.proposer))? {
        Some(_) => Ok(()),
        None => dead("its proposer was deleted"),
    }
}

/// Those whose signatures count now: they may approve, have this role still, and the key that they signed with.
fn approvers(
    records: &mut Transaction<'_>,
    proposal: &QuorumProposal,
    settings: &QuorumSettings,
    role: Role,
    may_approve: impl Fn(UserId) -> bool,
) -> Result<Vec<UserName>, Denial> {
    let mut names = Vec::new();
    for (user, signed_with) in &proposal.approvals {
        let is_own = *user == proposal.proposer && !settings.self_approval;
        if is_own || !may_approve(*user) {
            continue;
        }
        let Some(user) = records.load::<User>(user_record(*user))? else { continue };
        let key = user.content.approval_key.as_ref().map(|key| spki_sha256(&key.0));
        if user.content.role == role && key == Some(*signed_with) {
            names.push(user.content.name);
        }
    }
    Ok(names)
}

/// The approvers of what concerns the cluster: its admins.
fn approving_admins(
    records: &mut Transaction<'_>,
    proposal: &QuorumProposal,
    settings: &QuorumSettings,
) -> Result<Vec<UserName>, Denial> {
    approvers(records, proposal, settings, Role::Admin, |_| true)
}

/// The approvers, if they are enough and the proposal is alive.
fn enough(
    records: &mut Transaction<'_>,
    found: &Opened<QuorumProposal>,
    settings: &QuorumSettings,
    now: Now,
) -> Result<Vec<UserName>, Denial> {
    if check_alive(records, &found.content, now).is_err() {
        return Err(required("its token ended"));
    }
    let names = approving_admins(records, &found.content, settings)?;
    if names.len() < usize::from(settings.value(found.content.service)) {
        return Err(required("too few approvals"));
    }
    Ok(names)
}

fn token(
    records: &mut Transaction<'_>,
    found: &Opened<QuorumProposal>,
    settings: &QuorumSettings,
) -> Result<QuorumToken, Denial> {
    Ok(QuorumToken {
        id: QuorumTokenId(found.id.0),
        service: found.content.service,
        proposer: user_name(records, found.content.proposer)?,
        text: found.content.text.clone(),
        needed: settings.value(found.content.service),
        approvers: approving_admins(records, &found.content, settings)?,
        expires_at: found.content.expires_at,
    })
}

/// Deletes the dead, and tells who lives.
fn prune(records: &mut Transaction<'_>, now: Now) -> Result<Vec<RecordId>, Denial> {
    let mut alive = Vec::new();
    for found in records.scan::<QuorumProposal>(None, None, MAX_PROPOSALS)? {
        match check_alive(records, &found.content, now) {
            Ok(()) => alive.push(found.id),
            Err(_) => records.delete::<QuorumProposal>(found.id, found.version),
        }
    }
    Ok(alive)
}

fn user_name(records: &mut Transaction<'_>, user: UserId) -> Result<UserName, Denial> {
    let user = records.load::<User>(user_record(user))?;
    user.map(|user| user.content.name).ok_or_else(Denial::no_user)
}

fn tag_of(keys: &SealingKeys, proposal: &QuorumProposal) -> IndexTag {
    keys.index_tag(TagOf::QuorumOperation, &proposal.session, &proposal.operation)
}

fn operation_tag(keys: &SealingKeys, session: &Session, operation: &[u8; 32]) -> IndexTag {
    keys.index_tag(TagOf::QuorumOperation, &session.id, operation)
}

fn not_needed() -> Denial {
    Denial::new(RefusalCode::QuorumNotNeeded, "this needs no approval: just do it")
}

fn required(why: &'static str) -> Denial {
    Denial::new(RefusalCode::QuorumRequired, "Quorum approval is required for this operation").because(why)
}

#[cfg(test)]
mod tests;
