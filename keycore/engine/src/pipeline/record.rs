//! The audit record of one request.

use std::sync::Arc;

use keycore_audit::{Command, Entry, Outcome, Subject, User};
use keycore_wire::{
    AttributeChange, ClusterState, DeleteKey, Done, KeyId, KeyInfo, KeySelector, ListShares, Operation,
    Refusal, Reply, Request, SetAttribute, ShareKey, Signer, TlsSign, TlsSignTimed, UnshareKey, UserId,
    UserName,
};

use super::Place;
use crate::backup;
use crate::denial::Denial;
use crate::engine::Engine;
use crate::identity;
use crate::journal::{self, Throttle};
use crate::options::Now;
use crate::policy::Principal;
use crate::private_key::sha256;
use crate::session::{Caller, Session};

/// What becomes known of a request on its way, for its record.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) user: Option<UserId>,
    pub(super) name: Option<Arc<UserName>>,
    pub(super) key: Option<KeyId>,
    pub(super) label: Option<String>,
    /// What a success has to say besides: how a key was used, who approved. Empty if nothing.
    pub(super) note: String,
    /// What a refused token can still be logged out from.
    pub(super) idled: Option<Session>,
}

impl Facts {
    /// Finds out who asks: somebody, nobody, or somebody whose session ended.
    pub(super) fn know(
        &mut self,
        engine: &Engine,
        request: &Request<'_>,
        caller: &Caller,
        now: Now,
    ) -> Result<Option<Principal>, Denial> {
        let Some(session) = &caller.session else { return Ok(None) };
        self.user = Some(session.user);
        let (principal, name) = match request {
            Request::Logout(_) => session.check_used_or_not(&engine.snapshot(), now)?,
            _ => session.check(&engine.snapshot(), now)?,
        };
        self.name = Some(name);
        Ok(Some(principal))
    }

    /// What a success has to say, before who approved it.
    pub(super) fn note_before_approvals(&mut self, what: &str) {
        let approved = core::mem::take(&mut self.note);
        let between = if approved.is_empty() { "" } else { "; " };
        self.note = format!("{what}{between}{approved}");
    }

    /// Something was done to a key, and there is nothing to return.
    pub(super) fn done_to(&mut self, key: KeyInfo) -> Reply {
        self.key = Some(key.id);
        self.label = Some(key.label.into());
        Reply::Done(Done)
    }

    /// Takes over what a reply tells of its key.
    pub(super) fn learn(&mut self, reply: &Reply) {
        let info = match reply {
            Reply::BackupInfo(info) => {
                self.note_before_approvals(&backup::told(info));
                return;
            }
            Reply::BackupContent(content) => {
                self.note = format!("cluster {} at revision {}", content.cluster, content.revision);
                return;
            }
            Reply::KeyInfo(info) => info,
            Reply::PublicKey(public) => &public.info,
            _ => return,
        };
        self.key = Some(info.id);
        self.label = Some(info.label.clone().into());
    }
}

/// Writes that a change is about to be made, and returns when that is on the disk. The record of how it ended follows; if none
/// does, the engine was killed in between. Only for what may change something: nobody fills the disk with announcements.
pub(super) fn announce(
    engine: &Engine,
    request: &Request<'_>,
    caller: &Caller,
    now: Now,
    place: &Place<'_>,
    facts: &Facts,
) -> Result<(), Denial> {
    if matches!(place, Place::Loop(..)) {
        return Ok(());
    }
    let possible = match request {
        Request::InitializeCluster(_) | Request::InitializeBy(_) => {
            engine.cluster_state() == ClusterState::Uninitialized
        }
        // Its record says which share came; there is no half of it that a kill could leave.
        Request::UnsealCluster(_) => false,
        Request::ActivateCluster(_) => engine.cluster_state() == ClusterState::Initialized,
        Request::ClusterCsr(_) | Request::SetClusterCertificate(_) => {
            caller.session.is_some() || engine.cluster_state() == ClusterState::Initialized
        }
        // Nobody has to log in for a restore.
        Request::BackupEnd(_) | Request::BackupEndBy(_) => backup::restores(engine, caller.connection),
        Request::Login(_)
        | Request::PeerLogin(_)
        | Request::LoginChallenge(_)
        | Request::SignedLogin(_)
        | Request::Logout(_) => false,
        other => is_management(other) && caller.session.is_some(),
    };
    if !possible {
        return Ok(());
    }
    let what = detail_of(request).unwrap_or_default();
    engine.journal.append_and_sync(&Entry {
        outcome: Outcome::Begun,
        ..entry_of(request, caller, now, facts, None, &what)
    })
}

/// Writes the record of a request. Management is on the disk when this returns.
pub(super) fn audit(
    engine: &Engine,
    request: &Request<'_>,
    caller: &Caller,
    now: Now,
    place: &mut Place<'_>,
    facts: &Facts,
    denial: Option<&Denial>,
) -> Result<(), Denial> {
    let refusal = denial.map(|denial| &denial.refusal);
    let mut detail = denial.map_or(&*facts.note, |denial| match &*denial.reason {
        "" => &denial.refusal.detail,
        reason => reason,
    });
    let throttled;
    let done;
    if denial.is_none()
        && let Some(what) = detail_of(request)
    {
        // The note says who approved it, if somebody had to.
        done = if facts.note.is_empty() { what } else { format!("{what}; {}", facts.note) };
        detail = &done;
    }
    match (refusal, &mut *place) {
        (None, _) if !is_recorded(request) => return Ok(()),
        (Some(refusal), place) if Throttle::applies_to(refusal.code) => {
            let due = match place {
                Place::Loop(throttle, _) => throttle.count(now),
                Place::Worker => Some(0),
            };
            let due = due.and_then(|unrecorded| engine.journal.admit_refusal(now, unrecorded));
            let Some(unrecorded) = due else { return Ok(()) };
            throttled = throttled_detail(detail, unrecorded);
            detail = &throttled;
        }
        _ => {}
    }
    let entry = entry_of(request, caller, now, facts, refusal, detail);
    if matches!(place, Place::Worker) && is_management(request) {
        engine.journal.append_and_sync(&entry)
    } else {
        engine.journal.append(&entry)
    }
}

/// What of the thing was changed, where the operation's name does not say it.
fn detail_of(request: &Request<'_>) -> Option<String> {
    match request {
        Request::SetAttribute(set) => Some(match &set.change {
            AttributeChange::Set(attribute, on) => format!("{attribute} {}", if *on { "on" } else { "off" }),
            AttributeChange::Label(label) => format!("label {label}"),
        }),
        Request::SetClusterCertificate(set) => Some(identity::told(set)),
        Request::RotateKey(rotate) => Some(format!("replaces {} for {} s", rotate.key, rotate.grace_secs)),
        Request::ShareKey(share) => Some(format!("with {}", share.with)),
        Request::UnshareKey(unshare) => Some(format!("with {}", unshare.with)),
        Request::SessionEnd(end) => Some(format!("session {}", end.session)),
        _ => None,
    }
}

/// Code and name of an operation to those who read what was done: that somebody asked how long it took is nothing to them.
pub(crate) fn known_as(request: &Request<'_>) -> (u8, &'static str) {
    match request {
        Request::TlsSignTimed(_) => (<TlsSign<'_> as Operation>::OPCODE, <TlsSign<'_> as Operation>::NAME),
        other => (other.opcode(), other.name()),
    }
}

fn entry_of<'a>(
    request: &'a Request<'_>,
    caller: &Caller,
    now: Now,
    facts: &'a Facts,
    refusal: Option<&Refusal>,
    detail: &'a str,
) -> Entry<'a> {
    Entry {
        user: user_of(request, facts),
        command: if is_management(request) { Command::Management } else { Command::Data },
        opcode: known_as(request).0,
        subject: subject_of(request, facts),
        ..journal::entry(known_as(request).1, caller, now, refusal, detail)
    }
}

/// The detail of a record that stands for several refusals.
pub(crate) fn throttled_detail(detail: &str, unrecorded: u64) -> String {
    match unrecorded {
        0 => detail.to_owned(),
        _ => format!("{detail} (and {unrecorded} refused before it, since the last record)"),
    }
}

/// Whether a success is recorded: what tells no secret and needs no login is not. Self-tests record their runs themselves.
pub(super) fn is_recorded(request: &Request<'_>) -> bool {
    !matches!(
        request,
        Request::Hello(_)
            | Request::Ping(_)
            | Request::ClusterInfo(_)
            | Request::QuorumPolicy(_)
            | Request::SelfTest(_)
            | Request::BackupChunk(_)
    )
}

fn is_management(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::InitializeCluster(_)
            | Request::InitializeBy(_)
            | Request::UnsealCluster(_)
            | Request::ChangeUnseal(_)
            | Request::PrepareCustodians(_)
            | Request::ConfirmCustodians(_)
            | Request::RotateClusterKey(_)
            | Request::ActivateCluster(_)
            | Request::ClusterCsr(_)
            | Request::SetClusterCertificate(_)
            | Request::Login(_)
            | Request::PeerLogin(_)
            | Request::Logout(_)
            | Request::SessionEnd(_)
            | Request::UserSetPeerUid(_)
            | Request::UserLogout(_)
            | Request::LoginChallenge(_)
            | Request::SignedLogin(_)
            | Request::UserRegisterKey(_)
            | Request::UserRemoveKey(_)
            | Request::QuorumPropose(_)
            | Request::QuorumApprove(_)
            | Request::QuorumDelete(_)
            | Request::QuorumSetValue(_)
            | Request::QuorumSetPolicy(_)
            | Request::UserCreate(_)
            | Request::UserDelete(_)
            | Request::UserChangePassword(_)
            | Request::GenerateKey(_)
            | Request::ImportKey(_)
            | Request::DeleteKey(_)
            | Request::DeriveKey(_)
            | Request::WrapKey(_)
            | Request::UnwrapKey(_)
            | Request::SetAttribute(_)
            | Request::RotateKey(_)
            | Request::ZeroizeKeys(_)
            | Request::ZeroizeCluster(_)
            | Request::ShareKey(_)
            | Request::UnshareKey(_)
            | Request::BackupCreate(_)
            | Request::BackupVerify(_)
            | Request::BackupRestore(_)
            | Request::BackupEnd(_)
            | Request::BackupEndBy(_)
    )
}

fn user_of<'a>(request: &'a Request<'_>, facts: &'a Facts) -> Option<User<'a>> {
    match (request, &facts.name) {
        (Request::Login(login), _) => Some(User { id: facts.user, name: login.user.as_str() }),
        (Request::LoginChallenge(login), _) => Some(User { id: facts.user, name: login.user.as_str() }),
        (Request::PeerLogin(login), _) => Some(User { id: facts.user, name: login.user.as_str() }),
        (_, Some(name)) => Some(User { id: facts.user, name: name.as_str() }),
        // The user of a session that ended may have no name any more.
        (_, None) => facts.user.map(|id| User { id: Some(id), name: "" }),
    }
}

fn subject_of<'a>(request: &'a Request<'_>, facts: &'a Facts) -> Subject<'a> {
    let key = |label: &'a str| Subject::Key { id: facts.key, label: facts.label.as_deref().unwrap_or(label) };
    match request {
        Request::ActivateCluster(activate) => Subject::User(activate.admin.as_str()),
        Request::Login(login) => Subject::User(login.user.as_str()),
        Request::LoginChallenge(login) => Subject::User(login.user.as_str()),
        Request::UserRemoveKey(remove) => Subject::User(remove.name.as_str()),
        Request::QuorumApprove(approve) => Subject::User(approve.approver.as_str()),
        Request::PeerLogin(login) => Subject::User(login.user.as_str()),
        Request::UserSetPeerUid(set) => Subject::User(set.name.as_str()),
        Request::UserLogout(logout) => Subject::User(logout.name.as_str()),
        Request::UserCreate(create) => Subject::User(create.name.as_str()),
        Request::UserDelete(delete) => Subject::User(delete.name.as_str()),
        Request::UserChangePassword(change) => {
            let own = facts.name.as_deref();
            change.name.as_ref().or(own).map_or(Subject::None, |name| Subject::User(name.as_str()))
        }
        Request::ZeroizeKeys(zeroize) => Subject::User(zeroize.user.as_str()),
        Request::RotateKey(rotate) => {
            Subject::Key { id: facts.key.or(Some(rotate.key)), label: facts.label.as_deref().unwrap_or("") }
        }
        Request::GenerateKey(generate) => key(generate.template.label.as_str()),
        Request::ImportKey(import) => key(import.template.label.as_str()),
        Request::FindKey(find) => selected(&find.key, facts),
        Request::PublicKey(public) => selected(&public.key, facts),
        Request::DeleteKey(DeleteKey { key })
        | Request::SetAttribute(SetAttribute { key, .. })
        | Request::ShareKey(ShareKey { key, .. })
        | Request::UnshareKey(UnshareKey { key, .. })
        | Request::ListShares(ListShares { key }) => {
            Subject::Key { id: Some(*key), label: facts.label.as_deref().unwrap_or("") }
        }
        Request::TlsSign(sign) | Request::TlsSignTimed(TlsSignTimed(sign)) => Subject::Signature {
            key: facts.key,
            spki: Some(sign.key),
            site: sign.site,
            scheme: Some(sign.scheme),
            message_sha256: sha256(sign.message),
        },
        Request::Sign(sign) => Subject::Signature {
            key: Some(sign.key),
            spki: None,
            site: "",
            scheme: Some(sign.scheme),
            message_sha256: sha256(sign.message),
        },
        Request::SignData(sign) => Subject::Signature {
            key: Some(sign.key),
            spki: None,
            site: "",
            scheme: None,
            message_sha256: sha256(sign.data),
        },
        Request::VerifyData(verify) => match verify.signer {
            Signer::Key(id) => used(id, facts),
            Signer::PublicKey(_) => Subject::None,
        },
        Request::Encrypt(encrypt) => used(encrypt.key, facts),
        Request::Decrypt(decrypt) => used(decrypt.key, facts),
        Request::DeriveKey(derive) => key(derive.template.label.as_str()),
        Request::WrapKey(wrap) => used(wrap.key, facts),
        Request::UnwrapKey(unwrap) => key(unwrap.template.label.as_str()),
        _ => Subject::None,
    }
}

fn used<'a>(id: KeyId, facts: &'a Facts) -> Subject<'a> {
    Subject::Key { id: Some(id), label: facts.label.as_deref().unwrap_or("") }
}

fn selected<'a>(selector: &'a KeySelector, facts: &'a Facts) -> Subject<'a> {
    let (id, label) = match selector {
        KeySelector::Id(id) => (Some(*id), ""),
        KeySelector::Label(label) => (None, label.as_str()),
        KeySelector::SpkiSha256(_) => (None, ""),
    };
    Subject::Key { id: facts.key.or(id), label: facts.label.as_deref().unwrap_or(label) }
}
