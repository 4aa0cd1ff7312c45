//! Who may do what: the table, and the values that prove that it was asked.
//!
//! A [`Permission`] can be made here only, by [`authorize`] and then [`Authorized::approve`]; what uses a key or
//! changes a user demands one and takes the acting user from it. So the owner whose keys are looked up is always the
//! user that the table let pass.

use keycore_wire::{Request, Role, UserId, UserName};

use crate::denial::Denial;

/// What a request is about, as far as the table tells cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Hello,
    Ping,
    ClusterInfo,
    InitializeCluster,
    ActivateCluster,
    Login,
    Resume,
    Logout,
    UserCreate,
    UserList,
    UserDelete,
    ChangeOwnPassword,
    ChangeOthersPassword,
    GenerateKey,
    ImportKey,
    ListKeys,
    FindKey,
    PublicKey,
    DeleteKey,
    TlsSign,
    Sign,
    Random,
}

/// Approvals by other users that an action needs besides the permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quorum {
    /// The acting user decides alone.
    NotRequired,
}

/// One row: who may, and how many have to agree.
struct Rule {
    action: Action,
    nobody: bool,
    admin: bool,
    crypto_user: bool,
    quorum: Quorum,
}

macro_rules! rules {
    ($($action:ident $nobody:ident $admin:ident $crypto_user:ident $quorum:ident;)*) => {
        const RULES: &[Rule] = &[$(Rule {
            action: Action::$action,
            nobody: rules!(@ $nobody),
            admin: rules!(@ $admin),
            crypto_user: rules!(@ $crypto_user),
            quorum: Quorum::$quorum,
        }),*];
    };
    (@ yes) => { true };
    (@ no) => { false };
}

// Keys are always the acting user's own: nobody has other users' keys, admins have none.
// An admin may delete itself or change its own password; the last one can't be deleted (users.rs).
rules! {
    // action              nobody  admin  crypto-user  quorum
    Hello                  yes     yes    yes          NotRequired;
    Ping                   yes     yes    yes          NotRequired;
    ClusterInfo            yes     yes    yes          NotRequired;
    InitializeCluster      yes     yes    yes          NotRequired;
    ActivateCluster        yes     yes    yes          NotRequired;

    Login                  yes     yes    yes          NotRequired;
    Resume                 yes     yes    yes          NotRequired;
    Logout                 no      yes    yes          NotRequired;

    UserCreate             no      yes    no           NotRequired;
    UserList               no      yes    yes          NotRequired;
    UserDelete             no      yes    no           NotRequired;
    ChangeOwnPassword      no      yes    yes          NotRequired;
    ChangeOthersPassword   no      yes    no           NotRequired;

    GenerateKey            no      no     yes          NotRequired;
    ImportKey              no      no     yes          NotRequired;
    ListKeys               no      no     yes          NotRequired;
    FindKey                no      no     yes          NotRequired;
    PublicKey              no      no     yes          NotRequired;
    DeleteKey              no      no     yes          NotRequired;
    TlsSign                no      no     yes          NotRequired;
    Sign                   no      no     yes          NotRequired;
    Random                 no      yes    yes          NotRequired;
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
            Request::Login(_) => Self::Login,
            Request::Resume(_) => Self::Resume,
            Request::Logout(_) => Self::Logout,
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
            Request::TlsSign(_) => Self::TlsSign,
            Request::Sign(_) => Self::Sign,
            Request::Random(_) => Self::Random,
        }
    }
}

/// A user with a valid session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) user: UserId,
    pub(crate) role: Role,
}

/// The table says yes; approvals are still to be looked at.
pub(crate) struct Authorized {
    actor: Option<Principal>,
    quorum: Quorum,
}

/// The acting user may do it, and all who have to agree did.
pub(crate) struct Permission {
    actor: Option<Principal>,
}

/// Whether the table lets everybody do it who may open the socket.
pub(crate) fn is_open_to_nobody(action: Action) -> bool {
    RULES.iter().any(|rule| rule.action == action && rule.nobody)
}

/// Looks `action` up in the table for `actor`, or for nobody.
pub(crate) fn authorize(action: Action, actor: Option<Principal>) -> Result<Authorized, Denial> {
    let rule = RULES.iter().find(|rule| rule.action == action).ok_or_else(Denial::permission)?;
    let allowed = match actor {
        None if rule.nobody => true,
        None => return Err(Denial::not_logged_in()),
        Some(Principal { role: Role::Admin, .. }) => rule.admin,
        Some(Principal { role: Role::CryptoUser, .. }) => rule.crypto_user,
    };
    if allowed { Ok(Authorized { actor, quorum: rule.quorum }) } else { Err(Denial::permission()) }
}

impl Authorized {
    /// Asks for the approvals that the action needs.
    pub(crate) fn approve(self) -> Result<Permission, Denial> {
        match self.quorum {
            Quorum::NotRequired => Ok(Permission { actor: self.actor }),
        }
    }
}

impl Permission {
    /// The user who acts, and whose keys are meant.
    pub(crate) fn actor(&self) -> Result<UserId, Denial> {
        self.actor.map(|principal| principal.user).ok_or_else(Denial::not_logged_in)
    }
}

#[cfg(test)]
mod tests;
