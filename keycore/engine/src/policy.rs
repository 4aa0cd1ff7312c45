//! Who may do what: the table, and the values that prove that it was asked.
//!
//! A [`Permission`] can be made here only, by [`authorize`] and then [`Authorized::approve`]; what uses a key or
//! changes a user demands one and takes the acting user from it. So the owner whose keys are looked up is always the
//! user that the table let pass.

use crate::denial::Denial;
use crate::ledger::Transaction;
use crate::quorum::{Approval, Proposal};
use crate::session::Session;
use keycore_wire::{
    Attribute, AttributeChange, KeyPurpose, QuorumService, Request, Role, SessionsOf, UserId, UserName,
};

/// What a request is about, as far as the table tells cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Hello,
    Ping,
    ClusterInfo,
    InitializeCluster,
    ActivateCluster,
    InitializeBy,
    UnsealCluster,
    ChangeUnseal,
    PrepareCustodians,
    ConfirmCustodians,
    RotateClusterKey,
    ClusterCsr,
    SetClusterCertificate,
    Login,
    Resume,
    Logout,
    ListOwnSessions,
    ListOthersSessions,
    SessionEnd,
    PeerLogin,
    UserCreate,
    UserList,
    UserDelete,
    ChangeOwnPassword,
    ChangeOthersPassword,
    UserSetPeerUid,
    UserLogout,
    LoginChallenge,
    SignedLogin,
    RegisterApprovalKey,
    RegisterSecondFactor,
    UserRemoveKey,
    QuorumPropose,
    QuorumApprove,
    QuorumDelete,
    QuorumList,
    QuorumPolicy,
    QuorumSetValue,
    QuorumSetPolicy,
    GenerateKey,
    ImportKey,
    ListKeys,
    FindKey,
    PublicKey,
    DeleteKey,
    SetAttribute,
    SetTrusted,
    ShareKey,
    UnshareKey,
    ListShares,
    ListSharedKeys,
    RotateKey,
    ListSessionKeys,
    ZeroizeKeys,
    ZeroizeCluster,
    TlsSign,
    Sign,
    Random,
    SignData,
    VerifyData,
    Encrypt,
    Decrypt,
    Digest,
    DeriveKey,
    WrapKey,
    UnwrapKey,
    SelfTest,
    AuditAnchors,
    BackupCreate,
    BackupList,
    BackupVerify,
    BackupRestore,
    BackupChunk,
    BackupEnd,
    BackupEndBy,
}

/// Approvals by other users that an action needs besides the permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approvals {
    /// The acting user decides alone.
    NotRequired,
    /// As many as the service's value says, if it is above 1.
    User,
    Cluster,
    Quorum,
}

/// One row: who may, and how many have to agree.
struct Rule {
    nobody: bool,
    pre_officer: bool,
    admin: bool,
    crypto_user: bool,
    appliance_user: bool,
    quorum: Approvals,
}

macro_rules! rules {
    ($($action:ident $nobody:ident $pre_officer:ident $admin:ident $crypto_user:ident $appliance_user:ident
       $quorum:ident;)*) => {
        /// The row of an action; the compiler sees that each has one.
        const fn rule(action: Action) -> Rule {
            match action {
                $(Action::$action => Rule {
                    nobody: rules!(@ $nobody),
                    pre_officer: rules!(@ $pre_officer),
                    admin: rules!(@ $admin),
                    crypto_user: rules!(@ $crypto_user),
                    appliance_user: rules!(@ $appliance_user),
                    quorum: Approvals::$quorum,
                },)*
            }
        }
    };
    (@ yes) => { true };
    (@ no) => { false };
}

// The table of docs/permissions.md, which a test compares with a live engine's answers.
// Keys are always the acting user's own: nobody has other users' keys, admins have none.
// An admin may delete itself or change its own password; the last one can't be deleted (users.rs).
rules! {
    // action              nobody  pre-officer  admin  crypto-user  appliance-user  quorum
    Hello                  yes     yes          yes    yes          yes             NotRequired;
    Ping                   yes     yes          yes    yes          yes             NotRequired;
    ClusterInfo            yes     yes          yes    yes          yes             NotRequired;
    SelfTest               yes     yes          yes    yes          yes             NotRequired;
    InitializeCluster      yes     no           no     no           no              NotRequired;
    ActivateCluster        no      yes          no     no           no              NotRequired;
    InitializeBy           yes     no           no     no           no              NotRequired;
    UnsealCluster          yes     no           no     no           no              NotRequired;
    ChangeUnseal           no      no           yes    no           no              Cluster;
    PrepareCustodians      no      no           yes    no           no              Cluster;
    // With shares of what was prepared.
    ConfirmCustodians      no      no           yes    no           no              NotRequired;
    RotateClusterKey       no      no           yes    no           no              Cluster;
    // Of a cluster that is not active yet (identity.rs), then of an admin.
    ClusterCsr             no      yes          yes    no           no              NotRequired;
    SetClusterCertificate  no      yes          yes    no           no              Cluster;

    Login                  yes     yes          yes    yes          yes             NotRequired;
    Resume                 yes     yes          yes    yes          yes             NotRequired;
    PeerLogin              yes     yes          yes    yes          yes             NotRequired;
    Logout                 no      no           yes    yes          yes             NotRequired;
    ListOwnSessions        no      no           yes    yes          yes             NotRequired;
    ListOthersSessions     no      no           yes    no           no              NotRequired;
    // One's own; an admin's are all (sessions.rs).
    SessionEnd             no      no           yes    yes          yes             NotRequired;

    LoginChallenge         yes     yes          yes    yes          yes             NotRequired;
    SignedLogin            yes     yes          yes    yes          yes             NotRequired;

    UserCreate             no      no           yes    no           no              User;
    UserList               yes     yes          yes    yes          yes             NotRequired;
    UserDelete             no      no           yes    no           no              User;
    ChangeOwnPassword      no      no           yes    yes          yes             NotRequired;
    ChangeOthersPassword   no      no           yes    no           no              User;
    UserSetPeerUid         no      no           yes    no           no              User;
    UserLogout             no      no           yes    no           no              NotRequired;
    RegisterApprovalKey    no      no           yes    yes          no              NotRequired;
    RegisterSecondFactor   no      no           yes    no           no              NotRequired;
    UserRemoveKey          no      no           yes    no           no              User;

    // Admins for the services of the cluster, crypto users for keys that they may use (quorum.rs).
    QuorumPropose          no      no           yes    yes          no              NotRequired;
    QuorumApprove          no      no           yes    yes          no              NotRequired;
    QuorumDelete           no      no           yes    yes          no              NotRequired;
    QuorumList             yes     yes          yes    yes          yes             NotRequired;
    QuorumPolicy           yes     yes          yes    yes          yes             NotRequired;
    QuorumSetValue         no      no           yes    no           no              Quorum;
    QuorumSetPolicy        no      no           yes    no           no              Quorum;

    GenerateKey            no      no           no     yes          no              NotRequired;
    ImportKey              no      no           no     yes          no              NotRequired;
    ListKeys               no      no           no     yes          no              NotRequired;
    FindKey                no      no           no     yes          no              NotRequired;
    PublicKey              no      no           no     yes          no              NotRequired;
    DeleteKey              no      no           no     yes          no              NotRequired;
    SetAttribute           no      no           no     yes          no              NotRequired;
    SetTrusted             no      no           yes    no           no              NotRequired;
    ShareKey               no      no           no     yes          no              NotRequired;
    UnshareKey             no      no           no     yes          no              NotRequired;
    ListShares             no      no           no     yes          no              NotRequired;
    ListSharedKeys         no      no           no     yes          no              NotRequired;
    RotateKey              no      no           no     yes          no              NotRequired;
    ListSessionKeys        no      no           no     yes          no              NotRequired;
    ZeroizeKeys            no      no           yes    no           no              User;
    ZeroizeCluster         no      no           yes    no           no              Cluster;
    TlsSign                no      no           no     yes          no              NotRequired;
    Sign                   no      no           no     yes          no              NotRequired;
    Random                 no      no           yes    yes          no              NotRequired;
    SignData               no      no           no     yes          no              NotRequired;
    VerifyData             no      no           no     yes          no              NotRequired;
    Encrypt                no      no           no     yes          no              NotRequired;
    Decrypt                no      no           no     yes          no              NotRequired;
    Digest                 no      no           no     yes          no              NotRequired;
    DeriveKey              no      no           no     yes          no              NotRequired;
    WrapKey                no      no           no     yes          no              NotRequired;
    UnwrapKey              no      no           no     yes          no              NotRequired;

    AuditAnchors           no      no           yes    yes          yes             NotRequired;
    BackupCreate           no      no           yes    no           no              Cluster;
    BackupList             no      no           yes    no           no              NotRequired;
    BackupVerify           no      no           yes    no           no              NotRequired;
    BackupRestore          yes     no           no     no           no              NotRequired;
    // Of what the connection was allowed to begin.
    BackupChunk            yes     yes          yes    yes          yes             NotRequired;
    BackupEnd              yes     yes          yes    yes          yes             NotRequired;
    BackupEndBy            yes     yes          yes    yes          yes             NotRequired;
}

impl Action {
    /// What `request` is about, if it is `user` (or nobody) who asks.
    pub(crate) fn of(request: &Request<'_>, user: Option<&UserName>) -> Self {
        match request {
            Request::Hello(_) => Self::Hello,
            Request::Ping(_) => Self::Ping,
            Request::ClusterInfo(_) => Self::ClusterInfo,
            Request::InitializeCluster(_) => Self::InitializeCluster,
            Request::ActivateCluster(_) => Self::ActivateCluster,
            Request::InitializeBy(_) => Self::InitializeBy,
            Request::UnsealCluster(_) => Self::UnsealCluster,
            Request::ChangeUnseal(_) => Self::ChangeUnseal,
            Request::PrepareCustodians(_) => Self::PrepareCustodians,
            Request::ConfirmCustodians(_) => Self::ConfirmCustodians,
            Request::RotateClusterKey(_) => Self::RotateClusterKey,
            Request::ClusterCsr(_) => Self::ClusterCsr,
            Request::SetClusterCertificate(_) => Self::SetClusterCertificate,
            Request::Login(_) => Self::Login,
            Request::Resume(_) => Self::Resume,
            Request::Logout(_) => Self::Logout,
            Request::SessionList(list) => match &list.of {
                SessionsOf::Own => Self::ListOwnSessions,
                SessionsOf::User(name) if Some(name) == user => Self::ListOwnSessions,
                SessionsOf::User(_) | SessionsOf::All => Self::ListOthersSessions,
            },
            Request::SessionEnd(_) => Self::SessionEnd,
            Request::PeerLogin(_) => Self::PeerLogin,
            Request::UserSetPeerUid(_) => Self::UserSetPeerUid,
            Request::UserLogout(_) => Self::UserLogout,
            Request::LoginChallenge(_) => Self::LoginChallenge,
            Request::SignedLogin(_) => Self::SignedLogin,
            Request::UserRegisterKey(register) => match register.purpose {
                KeyPurpose::Approval => Self::RegisterApprovalKey,
                KeyPurpose::SecondFactor => Self::RegisterSecondFactor,
            },
            Request::UserRemoveKey(_) => Self::UserRemoveKey,
            Request::QuorumPropose(_) => Self::QuorumPropose,
            Request::QuorumApprove(_) => Self::QuorumApprove,
            Request::QuorumDelete(_) => Self::QuorumDelete,
            Request::QuorumList(_) => Self::QuorumList,
            Request::QuorumPolicy(_) => Self::QuorumPolicy,
            Request::QuorumSetValue(_) => Self::QuorumSetValue,
            Request::QuorumSetPolicy(_) => Self::QuorumSetPolicy,
            Request::UserCreate(_) => Self::UserCreate,
            Request::UserList(_) => Self::UserList,
            Request::UserDelete(_) => Self::UserDelete,
            // One's own password takes the current one, by whatever name one calls oneself.
            Request::UserChangePassword(change) if change.name.is_none() || change.name.as_ref() == user => {
                Self::ChangeOwnPassword
            }
            Request::UserChangePassword(_) => Self::ChangeOthersPassword,
            Request::GenerateKey(_) => Self::GenerateKey,
            Request::ImportKey(_) => Self::ImportKey,
            Request::ListKeys(_) => Self::ListKeys,
            Request::FindKey(_) => Self::FindKey,
            Request::PublicKey(_) => Self::PublicKey,
            Request::DeleteKey(_) => Self::DeleteKey,
            Request::SetAttribute(set)
                if matches!(set.change, AttributeChange::Set(Attribute::Trusted, _)) =>
            {
                Self::SetTrusted
            }
            Request::SetAttribute(_) => Self::SetAttribute,
            Request::ShareKey(_) => Self::ShareKey,
            Request::UnshareKey(_) => Self::UnshareKey,
            Request::ListShares(_) => Self::ListShares,
            Request::ListSharedKeys(_) => Self::ListSharedKeys,
            Request::RotateKey(_) => Self::RotateKey,
            Request::ListSessionKeys(_) => Self::ListSessionKeys,
            Request::ZeroizeKeys(_) => Self::ZeroizeKeys,
            Request::ZeroizeCluster(_) => Self::ZeroizeCluster,
            Request::TlsSign(_) | Request::TlsSignTimed(_) => Self::TlsSign,
            Request::Sign(_) => Self::Sign,
            Request::Random(_) => Self::Random,
            Request::SignData(_) => Self::SignData,
            Request::VerifyData(_) => Self::VerifyData,
            Request::Encrypt(_) => Self::Encrypt,
            Request::Decrypt(_) => Self::Decrypt,
            Request::Digest(_) => Self::Digest,
            Request::DeriveKey(_) => Self::DeriveKey,
            Request::WrapKey(_) => Self::WrapKey,
            Request::UnwrapKey(_) => Self::UnwrapKey,
            Request::SelfTest(_) => Self::SelfTest,
            Request::AuditAnchors(_) => Self::AuditAnchors,
            Request::BackupCreate(_) => Self::BackupCreate,
            Request::BackupList(_) => Self::BackupList,
            Request::BackupVerify(_) => Self::BackupVerify,
            Request::BackupRestore(_) => Self::BackupRestore,
            Request::BackupChunk(_) => Self::BackupChunk,
            Request::BackupEnd(_) => Self::BackupEnd,
            Request::BackupEndBy(_) => Self::BackupEndBy,
        }
    }
}

/// A user with a valid session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) user: UserId,
    pub(crate) role: Role,
    /// The login, whose session keys are meant.
    pub(crate) session: Option<Session>,
}

/// Who asks, as the table's columns tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Whoever may open the socket.
    Nobody,
    /// The first admin of a cluster that has no users yet. Its password is not set, so it logs in by the very request that
    /// sets it, and becomes an admin by that.
    PreOfficer,
    /// Somebody who logged in.
    User(Principal),
}

impl Asker {
    /// Who `principal`, or the lack of one, is in a request for `action`. Whether there still is a pre-officer, the
    /// operation itself decides in its transaction (`lifecycle.rs`, `identity.rs`).
    pub(crate) fn of(action: Action, principal: Option<Principal>) -> Self {
        match principal {
            Some(principal) => Self::User(principal),
            None if matches!(
                action,
                Action::ActivateCluster | Action::ClusterCsr | Action::SetClusterCertificate
            ) =>
            {
                Self::PreOfficer
            }
            None => Self::Nobody,
        }
    }
}

/// The table says yes; approvals are still to be looked at.
pub(crate) struct Authorized {
    asker: Asker,
    quorum: Approvals,
}

/// The acting user may do it, and all who have to agree did.
pub(crate) struct Permission {
    asker: Asker,
    approval: Option<Approval>,
}

/// Whether one goes on as nobody in it when one's session ended. Who lists users is told that he is logged out, and so is an admin
/// in what is also the pre-officer's.
pub(crate) fn survives_its_session(action: Action) -> bool {
    let rule = rule(action);
    let told = matches!(action, Action::UserList | Action::ClusterCsr | Action::SetClusterCertificate);
    (rule.nobody || rule.pre_officer) && !told
}

/// Looks `action` up in the table.
pub(crate) fn authorize(action: Action, asker: Asker) -> Result<Authorized, Denial> {
    let rule = rule(action);
    let allowed = match asker {
        Asker::Nobody => rule.nobody,
        Asker::PreOfficer => rule.pre_officer,
        Asker::User(Principal { role: Role::Admin, .. }) => rule.admin,
        Asker::User(Principal { role: Role::CryptoUser, .. }) => rule.crypto_user,
        Asker::User(Principal { role: Role::ApplianceUser, .. }) => rule.appliance_user,
    };
    match (allowed, asker) {
        (true, _) => Ok(Authorized { asker, quorum: rule.quorum }),
        (false, Asker::User(_)) => Err(Denial::permission()),
        (false, Asker::Nobody | Asker::PreOfficer) => Err(Denial::not_logged_in()),
    }
}

impl Authorized {
    /// Whose value of M counts; none if the acting user decides alone.
    pub(crate) fn service(&self) -> Option<QuorumService> {
        match self.quorum {
            Approvals::NotRequired => None,
            Approvals::User => Some(QuorumService::User),
            Approvals::Cluster => Some(QuorumService::Cluster),
            Approvals::Quorum => Some(QuorumService::Quorum),
        }
    }

    /// Asks for the approvals that the action needs. Reads the store if there is a [`service`](Self::service).
    pub(crate) fn approve(self, proposal: &Proposal<'_>) -> Result<Permission, Denial> {
        let approval = match self.service() {
            Some(service) => Some(Approval::find(service, proposal)?),
            None => None,
        };
        Ok(Permission { asker: self.asker, approval })
    }
}

impl Permission {
    /// The session that it is asked in.
    pub(crate) fn login(&self) -> Option<Session> {
        match self.asker {
            Asker::User(principal) => principal.session,
            Asker::Nobody | Asker::PreOfficer => None,
        }
    }

    /// The id of the session that it is asked in.
    pub(crate) fn session(&self) -> Option<[u8; 16]> {
        self.login().map(|session| session.id)
    }

    /// Who asks; none if nobody is logged in.
    pub(crate) fn principal(&self) -> Option<Principal> {
        match self.asker {
            Asker::User(principal) => Some(principal),
            Asker::Nobody | Asker::PreOfficer => None,
        }
    }

    /// For what is an admin's within an operation that others have, too.
    pub(crate) fn require_admin(&self) -> Result<(), Denial> {
        match self.principal() {
            Some(Principal { role: Role::Admin, .. }) => Ok(()),
            _ => Err(Denial::permission()),
        }
    }

    /// The user who acts, and whose keys are meant.
    pub(crate) fn actor(&self) -> Result<UserId, Denial> {
        match self.asker {
            Asker::User(principal) => Ok(principal.user),
            Asker::Nobody | Asker::PreOfficer => Err(Denial::not_logged_in()),
        }
    }

    /// Uses the approvals up, in the transaction that does what they are for. Looks at them once more: they may be used or
    /// withdrawn, and the value raised, since the permission was given.
    pub(crate) fn spend(&self, records: &mut Transaction<'_>) -> Result<(), Denial> {
        self.approval.as_ref().map_or(Ok(()), |approval| approval.spend(records))
    }

    /// Who approved it, for the audit log.
    pub(crate) fn approved_by(&self) -> Option<String> {
        self.approval.as_ref().and_then(Approval::by)
    }
}

#[cfg(test)]
mod tests;
