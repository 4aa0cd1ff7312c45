//! Changing to custodians: their shares are made and kept, then shown to the engine, and only then do they unseal the cluster.
//! Whatever ends in between, what unsealed before does, and the same command goes on.

use std::path::{Path, PathBuf};

use keycore_backup::Share;
use keycore_client::Error;
use keycore_wire::{ClusterStatus, ConfirmCustodians, PrepareCustodians, PreparedCustodians, Secret};
use serde_json::json;

use super::unseal::{SHARE_ROOM, is_uncertain, parse_share, write};
use super::{named, view};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::Reserved;
use crate::output::{Answer, timestamp};
use crate::password;
use crate::split::Split;

/// Both steps where the shares go to files, or the second one if they are there; else the first one.
pub(super) fn change(connection: &Connection, split: Split, files: &[PathBuf]) -> Result<Answer, Failure> {
    if files.is_empty() {
        let prepared = prepare(connection, split)?;
        return Ok(tell(&prepared, split));
    }
    let are_there = files.iter().all(|path| path.symlink_metadata().is_ok());
    if !are_there {
        let reserved: Vec<_> =
            files.iter().map(|path| Reserved::new(path, SHARE_ROOM)).collect::<Result<_, _>>()?;
        let prepared = prepare(connection, split)?;
        keep(reserved, &prepared).inspect_err(|_| {
            // Nobody needs them, and the next try would take them for its own.
            files.iter().for_each(|path| drop(std::fs::remove_file(path)));
        })?;
    }
    // What is on the disk, and not what should be.
    let shares = read(files, split)?;
    let status = show(connection, shares, RUN_AGAIN)?;
    let written: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    let text = format!(
        "{}\nthe shares are in {}: give each custodian one; {} of the {} unseal an engine: hsm cluster unseal",
        done(&status),
        written.join(", "),
        split.threshold,
        split.count
    );
    Ok(Answer::new(text, json!({ "status": view(&status), "files": written, "confirmed": true })))
}

fn prepare(connection: &Connection, split: Split) -> Result<PreparedCustodians, Failure> {
    let Split { threshold: needed, count: of } = split;
    connection.as_user(|user| user.call(&PrepareCustodians { needed, of })).map_err(|failure| match failure {
        Failure::Engine(error) if is_uncertain(&error) => {
            Failure::Unanswered { error, advice: NOTHING_CHANGED }
        }
        other => other,
    })
}

/// Shares that unseal nothing yet, for people who write them down.
fn tell(prepared: &PreparedCustodians, split: Split) -> Answer {
    let shares: Vec<_> =
        prepared.shares.iter().map(|share| String::from_utf8_lossy(share.expose())).collect();
    let mut text = String::new();
    for (at, share) in shares.iter().enumerate() {
        text.push_str(&format!("share {}: {share}\n", at + 1));
    }
    let until = timestamp(prepared.expires_at);
    text.push_str(&format!(
        "Nothing is changed yet. Give each custodian one; they are shown this once. Then, until {until}, with {} of the {}: \
         hsm cluster change-unseal --confirm",
        split.threshold, split.count
    ));
    let data = json!({ "shares": shares, "expires_at": until, "confirmed": false });
    Answer::new(text, data).told_once(NOTHING_CHANGED)
}

/// Puts each share on the disk.
fn keep(files: Vec<Reserved>, prepared: &PreparedCustodians) -> Result<(), Failure> {
    let mut files = files.into_iter();
    prepared.shares.iter().try_for_each(|share| {
        let file =
            files.next().ok_or_else(|| Failure::Usage("the engine made too many shares".to_owned()))?;
        write(file, &String::from_utf8_lossy(share.expose()))
    })
}

/// The shares in these files, all of one set.
fn read(files: &[PathBuf], split: Split) -> Result<Vec<Secret>, Failure> {
    let mut of = None;
    let read_one = |path: &PathBuf| {
        let content = |problem: String| Failure::Content {
            path: path.clone(),
            problem,
            advice: Some(format!(
                "{} is there already, and would be confirmed: choose another --share-out, or remove the files",
                path.display()
            )),
        };
        let text = password::unseal_file(path)?;
        let share = parse_share(&text, Some(path)).map_err(|failure| content(problem_of(&failure)))?;
        if share.threshold() != split.threshold || *of.get_or_insert(share.of()) != share.of() {
            return Err(content("a share of another set".to_owned()));
        }
        Ok(text)
    };
    files.iter().map(read_one).collect()
}

fn problem_of(failure: &Failure) -> String {
    match failure {
        Failure::Content { problem, .. } => problem.clone(),
        other => other.to_string(),
    }
}

/// The second step alone, with shares from files, or typed.
pub(super) fn confirm(connection: &Connection, files: &[PathBuf]) -> Result<Answer, Failure> {
    let shares = if files.is_empty() { ask()? } else { from(files)? };
    let status = show(connection, shares, CONFIRM_AGAIN)?;
    Ok(Answer::new(done(&status), json!({ "status": view(&status), "confirmed": true })))
}

fn from(files: &[PathBuf]) -> Result<Vec<Secret>, Failure> {
    let share = |path: &PathBuf| {
        let text = password::unseal_file(path)?;
        parse_share(&text, Some(path)).map(|_| text)
    };
    files.iter().map(share).collect()
}

/// Asks for shares until there are enough.
fn ask() -> Result<Vec<Secret>, Failure> {
    let mut shares: Vec<(Share, Secret)> = Vec::new();
    loop {
        let needed = shares.first().map_or(String::new(), |(share, _)| format!(" of {}", share.threshold()));
        let text =
            password::ask(&format!("Share {}{needed}: ", shares.len() + 1)).map_err(
                |failure| match failure {
                    Failure::NotLoggedIn { .. } => Failure::Usage(
                        "there is no terminal to ask for the shares on: give --share-file".to_owned(),
                    ),
                    other => other,
                },
            )?;
        let share = parse_share(&text, None::<&Path>)?;
        // Given twice, it counts once.
        shares.retain(|(other, _)| other.index() != share.index());
        let enough = shares.len() + 1 >= usize::from(share.threshold());
        shares.push((share, text));
        if enough {
            return Ok(shares.into_iter().map(|(_, text)| text).collect());
        }
    }
}

/// Shows the shares to the engine, which lets them unseal the cluster.
fn show(connection: &Connection, shares: Vec<Secret>, again: &'static str) -> Result<ClusterStatus, Failure> {
    connection.as_user(|user| user.call(&ConfirmCustodians { shares })).map_err(|failure| match failure {
        Failure::Engine(error) if is_uncertain(&error) || matches!(error, Error::NoEngine { .. }) => {
            Failure::Unanswered { error, advice: again }
        }
        other => other,
    })
}

fn done(status: &ClusterStatus) -> String {
    format!(
        "custodians unseal {}; set unseal = \"custodians\" in every engine's configuration. Those that run go on. Without enough \
         of the shares every key is lost.",
        named(status)
    )
}

/// What it means that the first step came to nothing.
const NOTHING_CHANGED: &str = "nothing was changed, and no shares count that reached nobody: run it again";

const RUN_AGAIN: &str = "the shares are in the files and may unseal the cluster already, or what did before still does: run the same \
                         command again";

const CONFIRM_AGAIN: &str =
    "the shares may unseal the cluster already, or what did before still does: run the same command again";
