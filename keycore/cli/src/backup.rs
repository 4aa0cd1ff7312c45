//! `hsm backup`: what the engine saves, and how it comes back.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use keycore_backup::{CustodianShare, Identity};
use keycore_client::Error as ClientError;
use keycore_client::blocking::Client;
use keycore_wire::{
    BackupChunk, BackupContent, BackupCreate, BackupEnd, BackupEndBy, BackupInfo, BackupList, BackupRestore,
    BackupVerify, ClusterState, MAX_BACKUP_CHUNK, MAX_BACKUP_PAGE, RefusalCode, Secret,
};
use serde_json::{Value, json};

use crate::cluster::{Method, is_uncertain};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file;
use crate::output::{Answer, table, timestamp};

mod keygen;

use keygen::Keygen;

#[derive(Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup now, where the engine's configuration says; as an admin
    Create,
    /// List the backups that the engine has; as an admin
    List,
    /// Read a backup and open every record of it, as an admin; or at an uninitialized engine, without a login
    Verify {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        identity: IdentityFiles,
    },
    /// Bring a cluster back from a backup, at an uninitialized engine; once, without a login
    Restore {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        identity: IdentityFiles,
        #[command(flatten)]
        unseal: Box<Method>,
    },
    /// Make an identity that opens backups, and the recipient for the engine's configuration; needs no engine
    Keygen(Keygen),
}

/// What opens a backup.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct IdentityFiles {
    /// File with the identity: AGE-SECRET-KEY-1…
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,

    /// File with a custodian's share of it; once for each share
    #[arg(long = "share", value_name = "FILE")]
    shares: Vec<PathBuf>,
}

impl BackupCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::Create => connection.as_user(|user| {
                let made = user.call(&BackupCreate)?;
                let text = format!("made and verified {}: {}", made.name, in_words(&made.content));
                Ok(Answer::new(text, view(&made)))
            }),
            Self::List => list(connection),
            Self::Verify { file, identity } => verify(connection, file, &identity.read()?),
            Self::Restore { file, identity, unseal } => restore(connection, file, &identity.read()?, unseal),
            Self::Keygen(keygen) => keygen.run(),
        }
    }
}

impl IdentityFiles {
    fn read(&self) -> Result<Identity, Failure> {
        let bad = |path: &Path, problem: String| Failure::Content {
            path: path.to_owned(),
            problem,
            advice: Some("hsm backup keygen makes identities and shares".to_owned()),
        };
        if let Some(path) = &self.identity {
            let text = file::read_secret(path, Identity::MAX_TEXT)?;
            return Identity::parse(&text).map_err(|error| bad(path, error.to_string()));
        }
        let mut shares = Vec::new();
        for path in &self.shares {
            let text = file::read_secret(path, CustodianShare::MAX_TEXT)?;
            shares.push(CustodianShare::parse(&text).map_err(|error| bad(path, error.to_string()))?);
        }
        CustodianShare::combine(shares).map_err(|error| Failure::Usage(error.to_string()))
    }
}

fn secret(identity: &Identity) -> Secret {
    Secret::new(identity.to_text().as_bytes().to_vec())
}

fn restore(
    connection: &Connection,
    file: &Path,
    identity: &Identity,
    unseal: &Method,
) -> Result<Answer, Failure> {
    let files = unseal.reserve_files()?;
    let mut client = connection.connect()?;
    client.call(&BackupRestore { identity: secret(identity), rehearse: false })?;
    let Some(method) = unseal.chosen() else {
        let content = feed(&mut client, file)?;
        let text = format!(
            "restored {}\nSessions from before are over: hsm login. Anything changed after {} is lost.",
            in_words(&content),
            timestamp(content.made_at)
        );
        return Ok(Answer::new(text, content_view(&content)));
    };
    send(&mut client, file)?;
    let made = client.call(&BackupEndBy { method }).map_err(|error| {
        if unseal.is_by_custodians() && is_uncertain(&error) {
            Failure::Unanswered { error, advice: UNCERTAIN }
        } else {
            named(file, error)
        }
    })?;
    let head = format!("restored {}\nSessions from before are over: hsm login.", file.display());
    Ok(unseal.tell(head, &made, files, LOST))
}

/// What it means that shares of a restored cluster were made and nobody has them.
const LOST: &str = "the restored cluster unseals by shares of which some reached nobody: stop its engines, take the store away, and \
                    restore again";

/// What to do when nobody knows whether the cluster is restored.
const UNCERTAIN: &str = "the cluster may be restored, and unseal by shares that nobody has: see hsm cluster info; if it is sealed, stop its \
                         engines, take the store away, and restore again";

fn verify(connection: &Connection, file: &Path, identity: &Identity) -> Result<Answer, Failure> {
    let mut client = connection.connect()?;
    let content = if client.hello().state == ClusterState::Uninitialized {
        client.call(&BackupRestore { identity: secret(identity), rehearse: true })?;
        feed(&mut client, file)?
    } else {
        drop(client);
        connection.as_user(|user| {
            user.call(&BackupVerify { identity: secret(identity) })?;
            feed(&mut user.client.borrow_mut(), file)
        })?
    };
    let text = format!("{} is whole, every record opens: {}", file.display(), in_words(&content));
    Ok(Answer::new(text, content_view(&content)))
}

/// Sends a whole backup.
fn feed(client: &mut Client, path: &Path) -> Result<BackupContent, Failure> {
    send(client, path)?;
    client.call(&BackupEnd).map_err(|error| named(path, error))
}

/// Sends a file, piece by piece.
fn send(client: &mut Client, path: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let (mut piece, mut offset) = (vec![0; MAX_BACKUP_CHUNK], 0);
    loop {
        let length = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        client.call(&BackupChunk { offset, bytes: &piece[..length] }).map_err(|error| named(path, error))?;
        offset += length as u64;
    }
    Ok(())
}

/// A failure that is the file's names it.
fn named(path: &Path, error: ClientError) -> Failure {
    match error {
        ClientError::Refused(refusal)
            if matches!(refusal.code, RefusalCode::BadBackup | RefusalCode::WrongIdentity) =>
        {
            Failure::Content { path: path.to_owned(), problem: refusal.detail, advice: None }
        }
        other => Failure::Engine(other),
    }
}

fn list(connection: &Connection) -> Result<Answer, Failure> {
    connection.as_user(|user| {
        let (mut rows, mut backups, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        let mut after: Option<String> = None;
        loop {
            let page = user.call(&BackupList { after: after.clone(), limit: MAX_BACKUP_PAGE })?;
            let last = page.backups.last().map(|backup| &backup.name);
            after = last.into_iter().chain(page.damaged.last().map(|(name, _)| name)).max().cloned();
            rows.extend(page.backups.iter().map(row));
            backups.extend(page.backups.iter().map(view));
            damaged.extend(page.damaged);
            if !page.more || after.is_none() {
                break;
            }
        }
        let head = ["NAME", "MADE", "REVISION", "USERS", "KEYS", "BYTES", "RECIPIENTS"];
        let mut text = table(head, &rows);
        for (name, problem) in &damaged {
            text.push_str(&format!("damaged: {name}: {problem}\n"));
        }
        let damaged: Vec<_> =
            damaged.iter().map(|(name, problem)| json!({ "name": name, "problem": problem })).collect();
        Ok(Answer::new(text, json!({ "backups": backups, "damaged": damaged })))
    })
}

fn row(backup: &BackupInfo) -> [String; 7] {
    let content = &backup.content;
    [
        backup.name.clone(),
        timestamp(content.made_at),
        content.revision.to_string(),
        content.users.to_string(),
        content.keys.to_string(),
        backup.size.to_string(),
        backup.recipients.join(","),
    ]
}

fn in_words(content: &BackupContent) -> String {
    format!(
        "cluster {} at revision {}, made {}: {} users, {} keys",
        content.cluster,
        content.revision,
        timestamp(content.made_at),
        content.users,
        content.keys
    )
}

fn view(backup: &BackupInfo) -> Value {
    let mut view = content_view(&backup.content);
    view["name"] = backup.name.as_str().into();
    view["bytes"] = backup.size.into();
    view["recipients"] = backup.recipients.clone().into();
    view["payload_sha256"] = backup.payload_sha256.as_str().into();
    view
}

fn content_view(content: &BackupContent) -> Value {
    json!({
        "cluster": content.cluster.to_string(),
        "revision": content.revision,
        "made_at": timestamp(content.made_at),
        "engine": content.engine,
        "records": content.records,
        "users": content.users,
        "keys": content.keys,
    })
}
