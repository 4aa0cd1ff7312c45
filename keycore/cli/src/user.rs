use clap::Subcommand;
use keycore_wire::{
    MAX_PAGE, Role, UserChangePassword, UserCreate, UserDelete, UserInfo, UserList, UserName,
};
use serde_json::{Value, json};

use crate::connection::{Connection, LoggedIn};
use crate::failure::Failure;
use crate::key::idempotency_key;
use crate::output::{Answer, table, timestamp};
use crate::password::NewPassword;

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user (admins only)
    Create {
        /// The name: 1 to 31 letters, digits, '-', '_', '.' or '@'
        name: UserName,
        /// admin manages users; crypto-user owns and uses keys; appliance-user sees how the cluster is
        #[arg(long)]
        role: Role,
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
}

impl UserCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        connection.as_user(|engine| match self {
            Self::Create { name, role, password } => create(engine, name, *role, password),
            Self::List => list(engine),
            Self::Delete { name } => {
                engine.call(&UserDelete { name: name.clone() })?;
                Ok(Answer::new(format!("deleted user {name}"), json!({ "name": name })))
            }
            Self::ChangePassword { name, password } => change_password(engine, name.as_ref(), password),
        })
    }
}

fn create(engine: &LoggedIn, name: &UserName, role: Role, password: &NewPassword) -> Result<Answer, Failure> {
    let user = engine.call(&UserCreate {
        idempotency_key: idempotency_key()?,
        name: name.clone(),
        role,
        password: password.read(name.as_str())?,
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
                timestamp(user.created_at),
                user.id.to_string(),
            ]
        })
        .collect();
    let views: Vec<_> = users.iter().map(view).collect();
    Ok(Answer::new(table(["NAME", "ROLE", "LOCKED", "CREATED", "ID"], &rows), json!({ "users": views })))
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
        "created_at": timestamp(user.created_at),
    })
}
