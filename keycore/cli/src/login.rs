use std::path::PathBuf;

use clap::Args;
use keycore_client::Identity;
use keycore_wire::{ClusterState, Login, LoginChallenge, Logout, PeerLogin, SignedLogin};
use serde_json::json;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Answer, timestamp};
use crate::own_key::SignedBy;
use crate::session::Sessions;

/// How to log in, besides the password.
#[derive(Debug, Args)]
pub(crate) struct LogIn {
    /// PEM file with the private key of the second factor
    #[arg(long, value_name = "FILE", conflicts_with = "mfa_sign_with")]
    mfa_key: Option<PathBuf>,

    /// Command that signs the challenge of the second factor: from its input to its output
    #[arg(long, value_name = "COMMAND")]
    mfa_sign_with: Option<String>,
}

impl LogIn {
    /// Logs in and keeps the session.
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        let factor = match (&self.mfa_key, &self.mfa_sign_with) {
            (Some(path), _) => Some(SignedBy::file(path)),
            (None, Some(command)) => Some(SignedBy::command(command)),
            (None, None) => None,
        };
        log_in(connection, factor.as_ref())
    }
}

fn log_in(connection: &Connection, factor: Option<&SignedBy>) -> Result<Answer, Failure> {
    let mut client = connection.connect()?;
    let Some(cluster) = client.hello().cluster.filter(|_| client.hello().state == ClusterState::Active)
    else {
        return Err(Failure::NotLoggedIn {
            what: "the cluster has no users yet".to_owned(),
            advice: "first hsm cluster init, then hsm cluster activate".to_owned(),
        });
    };
    let sessions = Sessions::of_this_user().ok_or_else(|| {
        Failure::Usage("there is no place for a session: set XDG_RUNTIME_DIR or HOME".to_owned())
    })?;
    let user = connection.require_user()?;
    let grant = if let Some(factor) = factor {
        let password = connection.password(&user)?;
        let challenge = client.call(&LoginChallenge { user: user.clone(), password })?.text;
        let signature = factor.sign(&challenge)?;
        client.call(&SignedLogin { challenge, signature })?
    } else if connection.by_peer() {
        client.call(&PeerLogin { user: user.clone() })?
    } else {
        client.call(&Login { user: user.clone(), password: connection.password(&user)? })?
    };
    sessions.keep(cluster, &user, &grant)?;
    let ends = timestamp(grant.expires_at);
    Ok(Answer::new(
        format!("logged in as {user} ({}) until {ends}; hsm logout ends it", grant.role),
        json!({ "user": user, "role": grant.role.name(), "expires_at": ends }),
    ))
}

/// Ends the kept session, in the engine and here.
pub(crate) fn log_out(connection: &Connection) -> Result<Answer, Failure> {
    let mut client = connection.connect()?;
    let Some(session) = connection.session(&client)? else {
        return Ok(Answer::new("nobody was logged in", json!({ "user": null })));
    };
    // The file goes first: whatever becomes of the engine, nobody finds the token here.
    session.forget()?;
    let user = session.user;
    let ended = client.login(&Identity::with_token(session.token)).and_then(|()| client.call(&Logout));
    let answer = Answer::new(format!("{user} is logged out"), json!({ "user": user }));
    match ended.map_err(Failure::from) {
        Ok(_) => Ok(answer),
        // A token that the engine no longer takes is what was wanted.
        Err(failure) if failure.exit_code() == Failure::PERMISSION => Ok(answer),
        Err(failure) => Err(failure),
    }
}
