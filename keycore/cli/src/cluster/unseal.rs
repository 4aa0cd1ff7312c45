//! What unseals the cluster: chosen once, then given to each sealed engine. Changing to custodians: `custodians.rs`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keycore_backup::{Share, SharePurpose};
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error};
use keycore_wire::{
    ChangeUnseal, ClusterStatus, InitializeBy, InitializeCluster, NewUnseal, RefusalCode, Resealing, Secret,
    UnsealCluster, UnsealMethod, UnsealStatus,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{custodians, named, reason, view};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::Reserved;
use crate::output::{Answer, table};
use crate::password;
use crate::split::Split;

/// What is to unseal the cluster.
#[derive(Args)]
pub(crate) struct Method {
    /// How the engines' unseal secret is taken [default: as a key if it is one, else as a passphrase]
    #[arg(long, value_enum, value_name = "METHOD", conflicts_with = "custodians")]
    unseal: Option<Configured>,

    /// Let N custodians have shares, any M of whom unseal together; engines then start sealed
    #[arg(long, value_name = "M/N")]
    pub(super) custodians: Option<Split>,

    /// Write the shares to FILE-1.share, FILE-2.share…; without it they are printed, this once
    #[arg(long, value_name = "FILE", requires = "custodians")]
    pub(super) share_out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Configured {
    /// A key: 32 random bytes or more, in hexadecimal or padded base64
    Secret,
    /// Anything: it is stretched with Argon2id
    Passphrase,
}

impl Method {
    /// Whether the options name custodians.
    pub(crate) fn is_by_custodians(&self) -> bool {
        self.custodians.is_some()
    }

    pub(super) fn initialize(&self, connection: &Connection) -> Result<Answer, Failure> {
        let next = "next: hsm cluster activate --admin NAME";
        let Some(method) = self.chosen() else {
            let status = connection.connect()?.call(&InitializeCluster)?;
            let text = format!("{} is initialized; {next}\n{KEEP}", named(&status));
            return Ok(Answer::new(text, view(&status)));
        };
        let files = self.reserve_files()?;
        let made = connection.connect()?.call(&InitializeBy { method }).map_err(|error| {
            if self.is_by_custodians() && is_uncertain(&error) {
                Failure::Unanswered { error, advice: UNCERTAIN_BEGINNING }
            } else {
                Failure::Engine(error)
            }
        })?;
        let head = format!("{} is initialized; {next}", named(&made.status));
        Ok(self.tell(head, &made, files, LOST))
    }

    /// The method that the options name.
    pub(crate) fn chosen(&self) -> Option<UnsealMethod> {
        match (self.custodians, self.unseal) {
            (Some(Split { threshold, count }), _) => {
                Some(UnsealMethod::Custodians { needed: threshold, of: count })
            }
            (None, Some(Configured::Secret)) => Some(UnsealMethod::Secret),
            (None, Some(Configured::Passphrase)) => Some(UnsealMethod::Passphrase),
            (None, None) => None,
        }
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let Some((out, split)) = self.share_out.as_ref().zip(self.custodians) else { return Vec::new() };
        let name = |number| {
            let mut name = out.clone().into_os_string();
            name.push(format!("-{number}.share"));
            PathBuf::from(name)
        };
        (1..=split.count).map(name).collect()
    }

    /// Before anything is done: no share replaces a file, and each has its place on the disk.
    pub(crate) fn reserve_files(&self) -> Result<Vec<Reserved>, Failure> {
        self.files().iter().map(|path| Reserved::new(path, SHARE_ROOM)).collect()
    }

    /// Hands the shares over. One that can't be written is shown: it is told this once.
    /// `lost` says what it means if they reach nobody.
    pub(crate) fn tell(
        &self,
        head: String,
        made: &NewUnseal,
        files: Vec<Reserved>,
        lost: &'static str,
    ) -> Answer {
        let mut data = json!({ "status": view(&made.status) });
        let Some(Split { threshold, count }) = self.custodians else {
            return Answer::new(format!("{head}\n{KEEP}"), data);
        };
        let (mut text, mut files) = (head, files.into_iter());
        let (mut written, mut shown, mut failed) = (Vec::new(), Vec::new(), false);
        for (at, share) in made.shares.iter().enumerate() {
            let share = String::from_utf8_lossy(share.expose());
            let file = files.next().map(|file| (file.path().display().to_string(), write(file, &share)));
            match file {
                Some((path, Ok(()))) => written.push(path),
                Some((_, Err(error))) => {
                    failed = true;
                    text.push_str(&format!("\n{error}; this is the share:\n{share}"));
                    shown.push(share.into_owned());
                }
                None => {
                    text.push_str(&format!("\nshare {}: {share}", at + 1));
                    shown.push(share.into_owned());
                }
            }
        }
        if !written.is_empty() {
            text.push_str(&format!("\nwrote the shares to {}", written.join(", ")));
            data["files"] = json!(written);
        }
        if !shown.is_empty() {
            data["shares"] = json!(shown);
        }
        text.push_str(&format!(
            "\nGive each custodian one; {threshold} of the {count} unseal an engine: hsm cluster unseal. They are shown \
             this once, and without {threshold} of them every key is lost.",
        ));
        let must_arrive = !shown.is_empty();
        let mut answer = Answer::new(text, data);
        if must_arrive {
            answer = answer.told_once(lost);
        }
        if failed { answer.in_part() } else { answer }
    }
}

/// What is to unseal the cluster from now on.
#[derive(Args)]
pub(crate) struct Change {
    #[command(flatten)]
    method: Method,

    /// File with the new unseal secret, readable by its owner only; without it, it is asked for twice
    #[arg(long, value_name = "FILE", conflicts_with = "custodians")]
    new_secret_file: Option<PathBuf>,

    /// Second step where the shares were printed: show as many of them as are needed, and let them unseal the cluster
    #[arg(long, conflicts_with_all = ["custodians", "unseal"])]
    confirm: bool,

    /// File with a share to confirm, once for each; without it, they are asked for
    #[arg(long, value_name = "FILE", requires = "confirm")]
    share_file: Vec<PathBuf>,
}

impl Change {
    pub(super) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        if self.confirm {
            return custodians::confirm(connection, &self.share_file);
        }
        if let Some(split) = self.method.custodians {
            return custodians::change(connection, split, &self.method.files());
        }
        let method = self.method.chosen().ok_or_else(|| {
            Failure::Usage(
                "say what is to unseal the cluster: --unseal METHOD or --custodians M/N".to_owned(),
            )
        })?;
        let secret = Some(password::new_unseal_secret(self.new_secret_file.as_deref())?);
        let changed = connection.as_user(|user| user.call(&ChangeUnseal { method, secret }))?;
        let text = format!(
            "another {} unseals {}; put it into the unseal-file of every engine. Those that run go on.\n{KEEP}",
            method.name(),
            named(&changed.status)
        );
        Ok(Answer::new(text, json!({ "status": view(&changed.status) })))
    }
}

/// How far a rotation of the cluster key is, as the engines say.
pub(super) fn rotation<'a>(statuses: impl Iterator<Item = &'a ClusterStatus>) -> String {
    let resealing = statuses.filter_map(|status| status.unseal.as_ref()?.resealing);
    resealing.max_by_key(|of| of.done).map_or_else(String::new, |Resealing { done, total }| {
        format!("\nthe cluster key is being rotated: {done} of {total} records are sealed anew")
    })
}

const KEEP: &str = "Keep the engine's unseal secret safe: without it every key is lost.";

/// What it means that shares were made and nobody has them.
const LOST: &str = "the cluster now unseals by shares of which some reached nobody: change it again at once, while its engines run: \
                    hsm cluster change-unseal (after hsm cluster activate, if it is new)";

/// What to do when nobody knows whether there is a cluster.
const UNCERTAIN_BEGINNING: &str = "the cluster may be initialized, and unseal by shares that nobody has: see hsm cluster info; if it is, stop \
                                   its engines, take the store away, and begin again";

/// Bytes that a share and its end of line fit in.
pub(super) const SHARE_ROOM: usize = Share::MAX_TEXT + 1;

pub(super) fn write(file: Reserved, share: &str) -> Result<(), Failure> {
    let line = Zeroizing::new([share, "\n"].concat());
    file.fill(line.as_bytes())
}

/// Whether the request may have been carried out although no answer came.
pub(crate) fn is_uncertain(error: &Error) -> bool {
    matches!(error, Error::OutcomeUnknown { .. } | Error::DeadlineExceeded)
}

/// Where a share, or the secret, comes from.
#[derive(Args)]
pub(crate) struct Part {
    /// File with the share, or - for standard input; without it, it is asked for
    #[arg(long, value_name = "FILE")]
    share_file: Option<PathBuf>,
}

impl Part {
    /// Gives it to every sealed engine.
    pub(super) fn give(&self, connection: &Connection) -> Result<Answer, Failure> {
        let part = self.read()?;
        let endpoints = connection.endpoints()?;
        let give = |endpoint: &Endpoint| {
            let mut client = Client::connect(core::slice::from_ref(endpoint), connection.timeout())?;
            client.call(&UnsealCluster { part: part.duplicate() })
        };
        let mut answers: Vec<_> = endpoints.iter().map(|endpoint| (endpoint, give(endpoint))).collect();
        let open = |error: &Error| matches!(error, Error::Refused(refusal) if refusal.code == RefusalCode::WrongClusterState);
        if let Some(failed) = answers.iter().position(|(_, answer)| answer.is_err())
            && answers.iter().all(|(_, answer)| answer.is_err())
        {
            let (_, Err(error)) = answers.swap_remove(failed) else { unreachable!("it is an error") };
            return Err(Failure::Engine(error));
        }
        let rows: Vec<_> = answers
            .iter()
            .map(|(endpoint, answer)| {
                let state = match answer {
                    Ok(status) => line(status).unwrap_or_else(|| "unsealed".to_owned()),
                    Err(error) if open(error) => "was not sealed".to_owned(),
                    Err(error) => reason(error),
                };
                [endpoint.to_string(), state]
            })
            .collect();
        let engines: Vec<_> = answers
            .iter()
            .map(|(endpoint, answer)| {
                let mut told = match answer {
                    Ok(status) => view(status),
                    Err(error) => json!({ "error": reason(error) }),
                };
                told["engine"] = endpoint.to_string().into();
                told
            })
            .collect();
        Ok(Answer::new(table(["ENGINE", "STATE"], &rows), json!({ "engines": engines })))
    }

    fn read(&self) -> Result<Secret, Failure> {
        let asked = |failure| match failure {
            Failure::NotLoggedIn { .. } => {
                Failure::Usage("there is no terminal to ask for the share on: give --share-file".to_owned())
            }
            other => other,
        };
        let text = match &self.share_file {
            Some(path) => password::unseal_file(path)?,
            None => password::ask("Share: ").map_err(asked)?,
        };
        if text.expose().trim_ascii_start().starts_with(b"hsm-") {
            parse_share(&text, self.share_file.as_deref())?;
        }
        Ok(text)
    }
}

/// Reads a share, from this file or typed: its check tells a typing error before any engine sees it.
pub(super) fn parse_share(text: &Secret, file: Option<&Path>) -> Result<Share, Failure> {
    Share::parse(SharePurpose::Unseal, text.expose()).map_err(|error| match file {
        Some(path) => Failure::Content { path: path.to_owned(), problem: error.to_string(), advice: None },
        None => Failure::Usage(error.to_string()),
    })
}

/// What a sealed engine waits for.
pub(super) fn line(status: &ClusterStatus) -> Option<String> {
    let unseal = status.unseal.as_deref()?;
    match unseal {
        UnsealStatus { generation: Some(_), .. } => None,
        UnsealStatus { method: UnsealMethod::Custodians { needed, of }, shares_given, .. } => {
            Some(format!("sealed: {shares_given} of {needed} shares are in, {of} were made"))
        }
        _ => Some("sealed: it waits for the unseal secret".to_owned()),
    }
}

/// How the cluster key is kept.
pub(super) fn json(status: &ClusterStatus) -> Value {
    let Some(unseal) = status.unseal.as_deref() else { return Value::Null };
    let mut told = json!({ "method": unseal.method.name(), "generation": unseal.generation });
    if let UnsealMethod::Custodians { needed, of } = unseal.method {
        told["shares"] = json!({ "needed": needed, "of": of, "given": unseal.shares_given });
    }
    if let Some(resealing) = unseal.resealing {
        told["resealing"] = json!({ "done": resealing.done, "total": resealing.total });
    }
    told
}
