use std::time::Duration;

use clap::Subcommand;
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error};
use keycore_wire::{
    ActivateCluster, ClusterId, ClusterInfo, ClusterStatus, Operation, RotateClusterKey, UserName,
    ZeroizeCluster,
};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::key::confirm;
use crate::output::{Answer, table, timestamp};
use crate::password::NewPassword;

mod custodians;
mod identity;
mod saved;
mod self_test;
mod unseal;

pub(crate) use unseal::{Method, is_uncertain};

use unseal::{Change, Part};

/// An engine that is silent for so long is shown as unreachable.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the cluster key of an empty cluster, and choose what unseals it; once, without a login
    Init(Method),
    /// Give a custodian's share, or the unseal secret, to every sealed engine; without a login
    Unseal(Part),
    /// Make the first admin of an initialized cluster; once, without a login
    Activate {
        /// The first admin's name
        #[arg(long, value_name = "NAME", default_value = "admin")]
        admin: UserName,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Change what unseals the cluster, while it goes on; as an admin
    ChangeUnseal(Change),
    /// Make a new generation of the cluster key, and seal everything anew with it in the background; as an admin
    RotateKey,
    /// Make the request for the certificate that engines show on the network; before activation without a login, then as an admin
    Csr(identity::Csr),
    /// Set the certificate that a CA made of the request, or a new one; before activation without a login, then as an admin
    SetCertificate(identity::SetCertificate),
    /// Ask every engine how it is, for 5 seconds at most; without a login
    Info,
    /// Destroy the cluster for good: its key, all users, all keys; as an admin
    Zeroize {
        /// The cluster's id, as hsm cluster info shows it
        #[arg(long, value_name = "ID")]
        cluster: ClusterId,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Let every engine test its cryptography, and show how it went; without a login
    SelfTest,
}

impl ClusterCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::Init(method) => method.initialize(connection),
            Self::Unseal(part) => part.give(connection),
            Self::ChangeUnseal(change) => change.run(connection),
            Self::RotateKey => {
                let status = connection.as_user(|user| user.call(&RotateClusterKey))?;
                let generation =
                    status.unseal.as_ref().and_then(|unseal| unseal.generation).unwrap_or_default();
                let text = format!(
                    "generation {generation} of the cluster key seals from now on; all records are sealed anew in the \
                     background, and hsm cluster info shows how far that is. Sessions from before end with it."
                );
                Ok(Answer::new(text, view(&status)))
            }
            Self::Activate { admin, password } => {
                let mut client = connection.connect()?;
                let password = password.read(admin.as_str())?;
                let status = client.call(&ActivateCluster { admin: admin.clone(), password })?;
                Ok(Answer::new(
                    format!(
                        "{} is active, {admin} is its first admin; next: hsm login --user {admin}",
                        named(&status)
                    ),
                    view(&status),
                ))
            }
            Self::Csr(csr) => csr.run(connection),
            Self::SetCertificate(set) => set.run(connection),
            Self::Info => info(connection),
            Self::Zeroize { cluster, yes } => {
                if !yes {
                    confirm(&format!(
                        "Destroy cluster {cluster} with all users and keys for good? Only a backup brings them back. \
                         Type yes: "
                    ))?;
                }
                connection.as_user(|engine| engine.call(&ZeroizeCluster { cluster: *cluster }))?;
                Ok(Answer::new(
                    format!(
                        "cluster {cluster} is destroyed; its engines start anew, uninitialized. Audit logs and backups \
                         are left as they are."
                    ),
                    json!({ "cluster": cluster.to_string() }),
                ))
            }
            Self::SelfTest => self_test::run(connection),
        }
    }
}

/// Asks all engines at once, so that a dead one costs its timeout only once.
fn ask_all<T: Operation<Reply: Send> + Sync>(
    endpoints: &[Endpoint],
    timeout: Duration,
    operation: &T,
) -> Vec<Result<T::Reply, Error>> {
    let ask = |endpoint| Client::connect(core::slice::from_ref(endpoint), timeout)?.call(operation);
    std::thread::scope(|scope| {
        let asked: Vec<_> = endpoints.iter().map(|endpoint| scope.spawn(move || ask(endpoint))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::DeadlineExceeded))).collect()
    })
}

fn info(connection: &Connection) -> Result<Answer, Failure> {
    let endpoints = connection.endpoints()?;
    let timeout = connection.timeout().min(PATIENCE);
    let answers = ask_all(&endpoints, timeout, &ClusterInfo);
    let rows: Vec<_> =
        endpoints.iter().zip(&answers).map(|(endpoint, answer)| row(endpoint, answer)).collect();
    let engines: Vec<_> = endpoints
        .iter()
        .zip(&answers)
        .map(|(endpoint, answer)| {
            let mut engine = match answer {
                Ok(status) => view(status),
                Err(error) => json!({ "error": reason(error) }),
            };
            engine["engine"] = endpoint.to_string().into();
            engine["reachable"] = answer.is_ok().into();
            engine
        })
        .collect();
    let head = [
        "ENGINE", "STATE", "REPLICA", "ZONE", "PID", "VERSION", "STARTED", "REVISION", "SESSIONS", "USERS",
        "KEYS",
    ];
    let mut text = table(head, &rows);
    for (endpoint, answer) in endpoints.iter().zip(&answers) {
        match answer {
            Ok(ClusterStatus { failed_self_test: Some(test), .. }) => {
                text.push_str(&format!("\nstopped: {endpoint}: a self-test failed: {test}"));
            }
            Ok(status) => {
                if let Some(line) = unseal::line(status) {
                    text.push_str(&format!("\n{endpoint}: {line}"));
                }
            }
            Err(error) => text.push_str(&format!("\nunreachable: {endpoint}: {}", reason(error))),
        }
    }
    text.push_str(&unseal::rotation(answers.iter().flatten()));
    // Every unsealed replica has the same one, but for some milliseconds.
    if let Some(line) = answers.iter().flatten().find_map(identity::line) {
        text.push_str(&format!("\n{line}"));
    }
    text.push_str(&saved::lines(answers.iter().flatten()));
    let mut clusters: Vec<_> = answers.iter().flatten().filter_map(|status| status.cluster).collect();
    clusters.sort_unstable();
    clusters.dedup();
    if clusters.len() > 1 {
        text.push_str("\nthese engines belong to different clusters");
    }
    if answers.iter().all(Result::is_err) {
        // The table says nothing that the errors don't.
        return Err(nobody_answers(answers));
    }
    let cluster = clusters.first().map(ToString::to_string);
    Ok(Answer::new(text, json!({ "cluster": cluster, "engines": engines })))
}

/// What is wrong with each of them.
fn nobody_answers<T>(answers: Vec<Result<T, Error>>) -> Failure {
    let failures = answers.into_iter().filter_map(Result::err).flat_map(|error| match error {
        Error::NoEngine { engines } => engines,
        _ => Vec::new(),
    });
    Failure::Engine(Error::NoEngine { engines: failures.collect() })
}

fn row(endpoint: &Endpoint, answer: &Result<ClusterStatus, Error>) -> [String; 11] {
    match answer {
        Ok(status) => [
            endpoint.to_string(),
            status.failed_self_test.as_ref().map_or(status.state.name(), |_| "stopped").to_owned(),
            status.replica.to_string(),
            status.zone.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            status.pid.to_string(),
            status.version.clone(),
            timestamp(status.started_at),
            status.revision.to_string(),
            status.sessions.to_string(),
            status.users.to_string(),
            status.keys.to_string(),
        ],
        Err(_) => {
            let mut row = core::array::from_fn(|_| "-".to_owned());
            row[0] = endpoint.to_string();
            row[1] = "unreachable".to_owned();
            row
        }
    }
}

/// Of one engine, whose name is known already, only what went wrong.
fn reason(error: &Error) -> String {
    match error {
        Error::NoEngine { engines } => match &engines[..] {
            [failure] => failure.reason.clone(),
            _ => error.to_string(),
        },
        other => other.to_string(),
    }
}

fn named(status: &ClusterStatus) -> String {
    status.cluster.map_or_else(|| "the cluster".to_owned(), |cluster| format!("cluster {cluster}"))
}

fn view(status: &ClusterStatus) -> Value {
    json!({
        "cluster": status.cluster.map(|cluster| cluster.to_string()),
        "state": status.state.name(),
        "replica": status.replica,
        "zone": status.zone,
        "pid": status.pid,
        "version": status.version,
        "started_at": timestamp(status.started_at),
        "revision": status.revision,
        "connections": status.connections,
        "sessions": status.sessions,
        "users": status.users,
        "keys": status.keys,
        "failed_self_test": status.failed_self_test,
        "restored": saved::restored(status),
        "backups": saved::backups(status),
        "unseal": unseal::json(status),
        "certificate": identity::json(status),
    })
}
