//! One record, as people and programs read it.

use data_encoding::HEXLOWER;
use keycore_audit::{Command, Outcome, Peer, Record, Subject};
use keycore_wire::UnixMillis;
use serde_json::{Value, json};

use crate::key_argument::SchemeArgument;
use crate::output::timestamp;

/// A record as it is shown.
pub(super) struct Line {
    pub(super) row: [String; 7],
    pub(super) view: Value,
}

/// What the columns of a row are.
pub(super) const HEAD: [&str; 7] = ["TIME", "RECORD", "USER", "OPERATION", "SUBJECT", "OUTCOME", "DETAIL"];

pub(super) fn line(record: &Record<'_>) -> Line {
    let entry = &record.entry;
    let outcome = outcome(entry.outcome);
    let user = entry.user.as_ref().map_or("-", |user| user.name);
    let row = [
        moment(entry.time_micros),
        format!("{}/{}", record.replica, record.sequence),
        printable(user),
        printable(entry.operation),
        subject(&entry.subject),
        outcome.to_owned(),
        printable(entry.detail),
    ];
    let view = json!({
        "time": moment(entry.time_micros),
        "time_micros": entry.time_micros,
        "replica": record.replica,
        "sequence": record.sequence,
        "boot": record.boot,
        "connection": entry.connection,
        "session": entry.session.map(|session| HEXLOWER.encode(&session.0)),
        "peer": entry.peer.map(peer_view),
        "user": entry.user.as_ref().map(|user| user.name),
        "user_id": entry.user.as_ref().and_then(|user| user.id).map(|id| id.to_string()),
        "command": command(entry.command),
        "opcode": format!("{:#04x}", entry.opcode),
        "operation": entry.operation,
        "subject": subject_view(&entry.subject),
        "outcome": outcome,
        "detail": entry.detail,
        "head": HEXLOWER.encode(&record.head.0),
    });
    Line { row, view }
}

pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Begun => "begun",
        Outcome::Done => "done",
        Outcome::Refused(code) => code.name(),
    }
}

pub(super) fn command(command: Command) -> &'static str {
    match command {
        Command::Engine => "engine",
        Command::Data => "data",
        Command::Management => "management",
        Command::Unknown => "unknown",
    }
}

pub(super) fn subject(subject: &Subject<'_>) -> String {
    match subject {
        Subject::None => String::new(),
        Subject::User(name) => format!("user {}", printable(name)),
        Subject::Key { label, .. } => format!("key {}", printable(label)),
        Subject::Signature { key, spki, site, scheme, .. } => {
            let key = key
                .map(|id| id.to_string())
                .or_else(|| spki.map(|spki| format!("spki:{spki}")))
                .unwrap_or_else(|| "?".to_owned());
            let scheme =
                scheme.map(|scheme| format!(", {}", SchemeArgument(scheme).name())).unwrap_or_default();
            let site = if site.is_empty() { String::new() } else { format!(" for {}", printable(site)) };
            format!("signature by {key}{scheme}{site}")
        }
        Subject::Checkpoint { .. } => "all records before".to_owned(),
    }
}

pub(super) fn subject_view(subject: &Subject<'_>) -> Value {
    match subject {
        Subject::None => Value::Null,
        Subject::User(name) => json!({ "user": name }),
        Subject::Key { id, label } => json!({ "key": id.map(|id| id.to_string()), "label": label }),
        Subject::Signature { key, spki, site, scheme, message_sha256 } => json!({
            "key": key.map(|id| id.to_string()),
            "spki_sha256": spki.map(|spki| spki.to_string()),
            "site": site,
            "scheme": scheme.map(|scheme| SchemeArgument(scheme).name()),
            "message_sha256": HEXLOWER.encode(message_sha256),
        }),
        Subject::Checkpoint { cluster, signature } => {
            json!({ "cluster": cluster.to_string(), "signature": HEXLOWER.encode(signature) })
        }
    }
}

pub(super) fn peer_view(peer: Peer) -> Value {
    match peer {
        Peer::Local { uid, gid, pid } => json!({ "uid": uid, "gid": gid, "pid": pid }),
        Peer::Remote { address, certificate } => {
            json!({ "address": address.to_string(), "certificate_sha256": certificate.to_string() })
        }
    }
}

/// Text that came from a peer: no control characters, which would steer the reader's terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(super) fn moment(micros: u64) -> String {
    timestamp(UnixMillis(micros / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_does_not_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(subject(&Subject::Key { id: None, label: "x\r" }), "key x\u{fffd}");
    }
}
