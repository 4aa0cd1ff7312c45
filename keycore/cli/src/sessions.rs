//! `hsm session`: each engine knows the sessions that are connected to it, so all of them are asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use data_encoding::HEXLOWER;
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error, Identity};
use keycore_wire::{
    MAX_SESSION_PAGE, RefusalCode, SessionEnd, SessionHandle, SessionInfo, SessionList, SessionPeer,
    SessionsOf, UserName,
};
use serde_json::{Value, json};

use crate::connection::{Connection, LoggedIn};
use crate::failure::Failure;
use crate::output::{Answer, table, timestamp};

#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions that are connected to the engines: one's own, or as an admin others'
    List {
        /// Everybody's (admins only)
        #[arg(long, conflicts_with = "of")]
        all: bool,
        /// This user's (admins only)
        #[arg(long, value_name = "NAME")]
        of: Option<UserName>,
    },
    /// End a session on all replicas: one's own, or as an admin anybody's
    End {
        /// Which, as hsm session list and the audit log show it
        handle: SessionHandle,
    },
}

impl SessionCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        let (endpoints, timeout) = (connection.endpoints()?, connection.timeout());
        connection.as_user(|engine| match self {
            Self::List { all, of } => {
                let of = match of {
                    Some(name) => SessionsOf::User(name.clone()),
                    None if *all => SessionsOf::All,
                    None => SessionsOf::Own,
                };
                list(&endpoints, timeout, &engine.identity, &of)
            }
            Self::End { handle } => end(engine, &endpoints, timeout, *handle),
        })
    }
}

/// A session, and what each engine said of it.
type Merged<'a> = BTreeMap<SessionHandle, Vec<(&'a Endpoint, SessionInfo)>>;

/// Asks all engines at once, so that a dead one costs its timeout only once.
fn list(
    endpoints: &[Endpoint],
    timeout: Duration,
    identity: &Arc<Identity>,
    of: &SessionsOf,
) -> Result<Answer, Failure> {
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |endpoint| sessions_at(endpoint, timeout, identity, of);
        let asked: Vec<_> = endpoints.iter().map(|endpoint| scope.spawn(move || ask(endpoint))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::DeadlineExceeded))).collect()
    });
    let (mut merged, mut silent, mut answered) = (Merged::new(), Vec::new(), false);
    for (endpoint, answer) in endpoints.iter().zip(answers) {
        match answer {
            Ok(sessions) => {
                answered = true;
                for session in sessions {
                    merged.entry(session.handle).or_default().push((endpoint, session));
                }
            }
            // What one engine refuses, the others do.
            Err(refused @ Error::Refused(_)) => return Err(refused.into()),
            Err(error) => silent.push((endpoint, error)),
        }
    }
    // A list of nothing but errors is none.
    if !answered && let Some((_, error)) = silent.pop() {
        return Err(error.into());
    }
    let rows: Vec<_> = merged.values().filter_map(|parts| row(parts)).collect();
    let sessions: Vec<_> = merged.values().filter_map(|parts| view(parts)).collect();
    let head = ["SESSION", "USER", "ROLE", "BEGAN", "ENDS", "LAST USED", "CONNECTIONS", "PEERS"];
    let unreachable: Vec<_> = silent
        .iter()
        .map(|(endpoint, error)| json!({ "engine": endpoint.to_string(), "error": error.to_string() }))
        .collect();
    let answer = Answer::new(table(head, &rows), json!({ "sessions": sessions, "unreachable": unreachable }));
    Ok(silent.iter().fold(answer, |answer, (endpoint, error)| {
        answer.note(format!("not asked, so its sessions are missing: {endpoint}: {error}"))
    }))
}

/// All sessions that one engine knows.
fn sessions_at(
    endpoint: &Endpoint,
    timeout: Duration,
    identity: &Arc<Identity>,
    of: &SessionsOf,
) -> Result<Vec<SessionInfo>, Error> {
    let mut client = logged_in(endpoint, timeout, identity)?;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = client.call(&SessionList { of: of.clone(), after, limit: MAX_SESSION_PAGE })?;
        after = page.sessions.last().map(|last| last.handle);
        found.extend(page.sessions);
        // An engine that promises more and gives nothing would be asked for ever.
        if !page.more || after.is_none() {
            return Ok(found);
        }
    }
}

/// Asks one engine after the other, until one knows the session. It ends on all of them then.
fn end(
    engine: &LoggedIn,
    endpoints: &[Endpoint],
    timeout: Duration,
    handle: SessionHandle,
) -> Result<Answer, Failure> {
    let (mut silent, mut unknown) = (None, None);
    for endpoint in endpoints {
        let asked = if engine.proposes {
            // Which the engine refuses: nobody has to approve it.
            engine.call(&SessionEnd { session: handle }).map(|_| ())
        } else {
            logged_in(endpoint, timeout, &engine.identity)
                .and_then(|mut client| client.call(&SessionEnd { session: handle }))
                .map(|_| ())
                .map_err(Failure::from)
        };
        match asked {
            Ok(()) => {
                return Ok(Answer::new(
                    format!("ended session {handle}"),
                    json!({ "session": handle.to_string() }),
                ));
            }
            Err(failure) if is_not_found(&failure) => unknown = Some(failure),
            Err(failure) if failure.is_lost_connection() => silent = Some(failure),
            Err(failure) => return Err(failure),
        }
    }
    // It may be at the engine that did not answer.
    let why = silent.or(unknown);
    Err(why.unwrap_or_else(|| Failure::Usage("there is no engine to ask".to_owned())))
}

fn is_not_found(failure: &Failure) -> bool {
    failure.refusal().is_some_and(|refusal| refusal.code == RefusalCode::NotFound)
}

fn logged_in(endpoint: &Endpoint, timeout: Duration, identity: &Arc<Identity>) -> Result<Client, Error> {
    let mut client = Client::connect(core::slice::from_ref(endpoint), timeout)?;
    client.login(identity)?;
    Ok(client)
}

fn row(parts: &[(&Endpoint, SessionInfo)]) -> Option<[String; 8]> {
    let (_, first) = parts.first()?;
    let mut peers: Vec<_> = parts.iter().flat_map(|(_, part)| part.peers.iter().map(peer)).collect();
    peers.sort_unstable();
    peers.dedup();
    let current = if is_current(parts) { " (this one)" } else { "" };
    Some([
        format!("{}{current}", first.handle),
        first.user.to_string(),
        first.role.to_string(),
        timestamp(first.issued_at),
        timestamp(first.expires_at),
        timestamp(parts.iter().map(|(_, part)| part.last_used_at).max()?),
        parts.iter().map(|(_, part)| part.connections).sum::<u32>().to_string(),
        peers.join(", "),
    ])
}

fn view(parts: &[(&Endpoint, SessionInfo)]) -> Option<Value> {
    let (_, first) = parts.first()?;
    let engines: Vec<_> = parts
        .iter()
        .map(|(endpoint, part)| {
            json!({
                "engine": endpoint.to_string(),
                "connections": part.connections,
                "last_used_at": timestamp(part.last_used_at),
                "peers": part.peers.iter().map(peer_view).collect::<Vec<_>>(),
            })
        })
        .collect();
    Some(json!({
        "session": first.handle.to_string(),
        "user": first.user,
        "role": first.role.name(),
        "issued_at": timestamp(first.issued_at),
        "expires_at": timestamp(first.expires_at),
        "last_used_at": timestamp(parts.iter().map(|(_, part)| part.last_used_at).max()?),
        "current": is_current(parts),
        "engines": engines,
    }))
}

fn is_current(parts: &[(&Endpoint, SessionInfo)]) -> bool {
    parts.iter().any(|(_, part)| part.current)
}

fn peer(peer: &SessionPeer) -> String {
    match peer {
        SessionPeer::Process { uid, gid: _, pid } => format!("uid {uid} pid {pid}"),
        SessionPeer::Remote { address, certificate: _ } => address.to_string(),
    }
}

fn peer_view(peer: &SessionPeer) -> Value {
    match peer {
        SessionPeer::Process { uid, gid, pid } => json!({ "uid": uid, "gid": gid, "pid": pid }),
        SessionPeer::Remote { address, certificate } => {
            json!({ "address": address.to_string(), "certificate_sha256": HEXLOWER.encode(certificate) })
        }
    }
}
