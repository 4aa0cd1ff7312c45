use clap::Subcommand;
use keycore_wire::{
    KeyPurpose, MAX_PAGE, Role, UserChangePassword, UserCreate, UserDelete, UserInfo, UserList, UserLogout,
    UserName, UserRemoveKey, UserSetPeerUid,
};
use serde_json::{Value, json};

use crate::connection::{Connection, LoggedIn};
use crate::failure::Failure;
use crate::key::idempotency_key;
use crate::output::{Answer, table, timestamp};
use crate::password::NewPassword;
use crate::user_key::Registration;

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user (admins only)
    Create {
        /// The name: 1 to 31 letters, digits, '-', '_', '.' or '@'
        name: UserName,
        /// admin manages users; crypto-user owns and uses keys; appliance-user sees how the cluster is
        #[arg(long)]
        role: Role,
        /// Processes of this uid log in without a password; then there is no password unless one is given
        #[arg(long, value_name = "UID")]
        peer_uid: Option<u32>,
        #[command(flatten)]
        password: NewPassword,
    },
    /// List all users
    List,
    /// Delete a user who owns no keys (admins only)
    Delete {
        /// Who
        name: UserName,
    },
    /// Set one's own password, or as an admin anybody's; ends that user's sessions and unlocks the account
    ChangePassword {
        /// Whose [default: one's own]
        name: Option<UserName>,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Let the processes of a uid log in as a user without a password, or none (admins only)
    SetPeerUid {
        /// Who
        name: UserName,
        /// The uid
        #[arg(long, value_name = "UID", required_unless_present = "none")]
        peer_uid: Option<u32>,
        /// Take it away
        #[arg(long, conflicts_with = "peer_uid")]
        none: bool,
    },
    /// Manage the keys that approvals are signed with (admins only)
    #[command(subcommand)]
    ChangeQuorum(ChangeQuorum),
    /// Manage second factors (admins only)
    #[command(subcommand)]
    ChangeMfa(ChangeKey),
    /// End all sessions of a user on all replicas (admins only)
    Logout {
        /// Who
        name: UserName,
    },
}

#[derive(Subcommand)]
pub(crate) enum ChangeQuorum {
    /// The key that approvals are signed with
    #[command(subcommand)]
    TokenSign(ChangeKey),
}

#[derive(Subcommand)]
pub(crate) enum ChangeKey {
    /// Register a key of one's own: RSA, P-256 or Ed25519
    Register(Registration),
    /// Take a user's key away
    Remove {
        /// Whose
        name: UserName,
    },
}

impl ChangeKey {
    fn run(&self, engine: &LoggedIn, purpose: KeyPurpose) -> Result<Answer, Failure> {
        match self {
            Self::Register(registration) => registration.run(engine, purpose),
            Self::Remove { name } => {
                let user = engine.call(&UserRemoveKey { name: name.clone(), purpose })?;
                Ok(Answer::new(format!("{name} has no such key any more: {}", purpose.name()), view(&user)))
            }
        }
    }
}

impl UserCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        connection.as_user(|engine| match self {
            Self::Create { name, role, peer_uid, password } => {
                create(engine, name, *role, *peer_uid, password)
            }
            Self::List => list(engine),
            Self::Delete { name } => {
                engine.call(&UserDelete { name: name.clone() })?;
                Ok(Answer::new(format!("deleted user {name}"), json!({ "name": name })))
            }
            Self::SetPeerUid { name, peer_uid, none: _ } => {
                let user = engine.call(&UserSetPeerUid { name: name.clone(), peer_uid: *peer_uid })?;
                let said = peer_uid.map_or("no uid".to_owned(), |uid| format!("uid {uid}"));
                Ok(Answer::new(format!("{said} logs in as {name}; older sessions are ended"), view(&user)))
            }
            Self::ChangeQuorum(ChangeQuorum::TokenSign(change)) => change.run(engine, KeyPurpose::Approval),
            Self::ChangeMfa(change) => change.run(engine, KeyPurpose::SecondFactor),
            Self::Logout { name } => {
                engine.call(&UserLogout { name: name.clone() })?;
                Ok(Answer::new(format!("ended all sessions of {name}"), json!({ "name": name })))
            }
            Self::ChangePassword { name, password } => change_password(engine, name.as_ref(), password),
        })
    }
}

fn create(
    engine: &LoggedIn,
    name: &UserName,
    role: Role,
    peer_uid: Option<u32>,
    password: &NewPassword,
) -> Result<Answer, Failure> {
    let password = match peer_uid {
        Some(_) if !password.is_given() => None,
        _ => Some(password.read(name.as_str())?),
    };
    let user = engine.call(&UserCreate {
        idempotency_key: idempotency_key()?,
        name: name.clone(),
        role,
        password,
        peer_uid,
    })?;
    Ok(Answer::new(format!("made user {name} ({role})"), view(&user)))
}

fn list(engine: &LoggedIn) -> Result<Answer, Failure> {
    let mut users: Vec<UserInfo> = Vec::new();
    loop {
        let after = users.last().map(|user| user.id);
        let page = engine.call(&UserList { after, limit: MAX_PAGE })?;
        let more = page.more && !page.users.is_empty();
        users.extend(page.users);
        if !more {
            break;
        }
    }
    users.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<_> = users
        .iter()
        .map(|user| {
            [
                user.name.to_string(),
                user.role.to_string(),
                if user.locked { "locked" } else { "" }.to_owned(),
                user.peer_uid.map(|uid| uid.to_string()).unwrap_or_default(),
                timestamp(user.created_at),
                user.id.to_string(),
            ]
        })
        .collect();
    let views: Vec<_> = users.iter().map(view).collect();
    Ok(Answer::new(
        table(["NAME", "ROLE", "LOCKED", "PEER UID", "CREATED", "ID"], &rows),
        json!({ "users": views }),
    ))
}

fn change_password(
    engine: &LoggedIn,
    name: Option<&UserName>,
    password: &NewPassword,
) -> Result<Answer, Failure> {
    let own = name.is_none_or(|name| *name == engine.user);
    let whose = name.unwrap_or(&engine.user);
    let current = if own { Some(engine.password()?) } else { None };
    let new = password.read(whose.as_str())?;
    engine.call(&UserChangePassword { name: name.filter(|_| !own).cloned(), current, new })?;
    Ok(Answer::new(format!("{whose} has a new password; older sessions are ended"), json!({ "name": whose })))
}

fn view(user: &UserInfo) -> Value {
    json!({
        "id": user.id.to_string(),
        "name": user.name,
        "role": user.role.name(),
        "locked": user.locked,
        "password": user.password,
        "peer_uid": user.peer_uid,
        "second_factor": user.second_factor.map(|key| key.to_string()),
        "approval_key": user.approval_key.map(|key| key.to_string()),
        "created_at": timestamp(user.created_at),
    })
}
