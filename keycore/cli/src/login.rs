use std::path::{Path, PathBuf};

use clap::Args;
use keycore_client::{Error, Identity};
use keycore_wire::{
    ClusterState, Done, Login, LoginChallenge, Logout, MAX_OWN_KEY, PeerLogin, RefusalCode, SignedLogin,
};
use serde_json::json;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::file;
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

    /// First of two steps for a key that is elsewhere: write the challenge to a file, and log nobody in
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mfa_key", "mfa_sign_with", "mfa_challenge"])]
    mfa_challenge_out: Option<PathBuf>,

    /// Second step, without the password: the file with the challenge
    #[arg(long, value_name = "FILE", requires = "mfa_signature", conflicts_with_all = ["mfa_key", "mfa_sign_with"])]
    mfa_challenge: Option<PathBuf>,

    /// Its signature, made by openssl elsewhere
    #[arg(long, value_name = "FILE", requires = "mfa_challenge")]
    mfa_signature: Option<PathBuf>,
}

impl LogIn {
    /// Logs in and keeps the session.
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        let by = match self {
            Self { mfa_challenge_out: Some(path), .. } => return challenge(connection, path),
            Self { mfa_challenge: Some(challenge), mfa_signature: Some(signature), .. } => {
                By::Signed(signed(challenge, signature)?)
            }
            Self { mfa_key: Some(path), .. } => By::Factor(SignedBy::file(path)),
            Self { mfa_sign_with: Some(command), .. } => By::Factor(SignedBy::command(command)),
            _ => By::Password,
        };
        log_in(connection, by)
    }
}

/// What logs in.
enum By {
    Password,
    /// A password, then this.
    Factor(SignedBy),
    /// A challenge that a password got, signed.
    Signed(SignedLogin),
}

/// Longest challenge that is read, in bytes.
const LONGEST_CHALLENGE: usize = 1024;

/// Writes a challenge for somebody to sign elsewhere.
fn challenge(connection: &Connection, path: &Path) -> Result<Answer, Failure> {
    let mut client = connection.connect()?;
    let user = connection.require_user()?;
    let password = connection.password(&user)?;
    let text = client.call(&LoginChallenge { user: user.clone(), password })?.text;
    file::write(path, text.as_bytes(), 0o600, true)?;
    let path = path.display();
    Ok(Answer::new(
        format!(
            "wrote the challenge for {user} to {path}, good for five minutes and one login: sign it (openssl dgst -sha256 \
             -sign KEY -out SIGNATURE {path}), then hsm login --user {user} --mfa-challenge {path} --mfa-signature SIGNATURE"
        ),
        json!({ "user": user, "challenge": text }),
    ))
}

fn signed(challenge: &Path, signature: &Path) -> Result<SignedLogin, Failure> {
    let text =
        String::from_utf8(file::read(challenge, LONGEST_CHALLENGE)?).map_err(|_| Failure::Content {
            path: challenge.to_owned(),
            problem: "no challenge of a login".to_owned(),
            advice: Some("hsm login --mfa-challenge-out FILE".to_owned()),
        })?;
    Ok(SignedLogin { challenge: text, signature: file::read(signature, MAX_OWN_KEY)? })
}

fn log_in(connection: &Connection, by: By) -> Result<Answer, Failure> {
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
    let grant = match by {
        By::Factor(factor) => {
            let password = connection.password(&user)?;
            let challenge = client.call(&LoginChallenge { user: user.clone(), password })?.text;
            let signature = factor.sign(&challenge)?;
            client.call(&SignedLogin { challenge, signature })?
        }
        By::Signed(signed) => {
            // The session is kept under this name.
            if !signed.challenge.lines().any(|line| line.strip_prefix("user: ") == Some(user.as_str())) {
                return Err(Failure::Usage(format!("the challenge is not one for {user}")));
            }
            client.call(&signed)?
        }
        By::Password if connection.by_peer() => client.call(&PeerLogin { user: user.clone() })?,
        By::Password => client.call(&Login { user: user.clone(), password: connection.password(&user)? })?,
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
    match client.login(&Identity::with_token(session.token)) {
        Ok(()) => {}
        // It may only not have been used for too long: then it can still be logged out, and copies of it with it.
        Err(Error::Login(refusal)) if refusal.code == RefusalCode::SessionEnded => {}
        Err(error) => return Err(error.into()),
    }
    match client.call(&Logout) {
        Ok(Done) => {
            Ok(Answer::new(format!("{user} is logged out"), json!({ "user": user, "ended_before": false })))
        }
        Err(Error::Refused(refusal))
            if matches!(refusal.code, RefusalCode::SessionEnded | RefusalCode::NotLoggedIn) =>
        {
            Ok(Answer::new(
                format!(
                    "the engine did not take the session of {user} any more, so it ended nothing; it is forgotten here. \
                     An admin ends all sessions of {user}: hsm user logout {user}"
                ),
                json!({ "user": user, "ended_before": true }),
            ))
        }
        Err(error) => Err(error.into()),
    }
}
