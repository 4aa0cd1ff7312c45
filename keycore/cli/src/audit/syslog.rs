//! Records as lines of syslog (RFC 5424), with everything as structured data.

use std::fmt::Write;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use keycore_audit::{Outcome, Peer, Record, Subject};
use keycore_wire::UnixMillis;

use super::record::{command, outcome, printable, subject};
use crate::key_argument::SchemeArgument;
use crate::output::timestamp;

/// Facility "log audit" (RFC 5424, table 1).
const FACILITY: u8 = 13;

/// Name of the structured data. 32473 is the enterprise number for examples (RFC 5612): this project has none of its own.
const SD_ID: &str = "hsmAudit@32473";

/// The HOSTNAME of a line: 1 to 255 printable ASCII characters, `-` for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host(String);

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err("1 to 255 printable ASCII characters without spaces (RFC 5424)"),
        }
    }
}

/// What all lines have in common.
pub(super) struct Syslog<'a> {
    pub(super) host: &'a Host,
}

impl Syslog<'_> {
    /// A line, without the newline.
    pub(super) fn line(&self, record: &Record<'_>) -> String {
        let entry = &record.entry;
        // Refusals are warnings, the rest is informational.
        let severity = if matches!(entry.outcome, Outcome::Refused(_)) { 4 } else { 6 };
        let mut line = format!(
            "<{}>1 {} {} hsm-engine {}.{} {} ",
            FACILITY * 8 + severity,
            time(entry.time_micros),
            self.host.0,
            record.replica,
            record.boot,
            message_id(entry.operation),
        );
        structured(record, &mut line);
        let user = entry.user.as_ref().map_or("-", |user| user.name);
        let (user, operation) = (printable(user), printable(entry.operation));
        let mut text = format!("{user}: {operation}");
        for part in [&subject(&entry.subject), outcome(entry.outcome), &printable(entry.detail)] {
            if !part.is_empty() {
                text.push_str(", ");
                text.push_str(part);
            }
        }
        // Section 6.4: what is not ASCII begins with the byte order mark.
        let mark = if text.is_ascii() { "" } else { "\u{feff}" };
        line.push(' ');
        line.push_str(mark);
        line.push_str(&text);
        line
    }
}

fn structured(record: &Record<'_>, line: &mut String) {
    let entry = &record.entry;
    line.push('[');
    line.push_str(SD_ID);
    let mut parameter = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a string can't fail.
            let _ = write!(line, " {name}=\"{}\"", escaped(value));
        }
    };
    parameter("replica", &record.replica.to_string());
    parameter("sequence", &record.sequence.to_string());
    parameter("boot", &record.boot.to_string());
    parameter("head", &HEXLOWER.encode(&record.head.0));
    parameter("connection", &entry.connection.to_string());
    parameter("session", &entry.session.map(|id| HEXLOWER.encode(&id.0)).unwrap_or_default());
    match entry.peer {
        Some(Peer::Local { uid, gid, pid }) => {
            parameter("uid", &uid.to_string());
            parameter("gid", &gid.to_string());
            parameter("pid", &pid.to_string());
        }
        Some(Peer::Remote { address, certificate }) => {
            parameter("address", &address.to_string());
            parameter("certificate", &certificate.to_string());
        }
        None => {}
    }
    if let Some(user) = &entry.user {
        parameter("user", user.name);
        parameter("userId", &user.id.map(|id| id.to_string()).unwrap_or_default());
    }
    parameter("command", command(entry.command));
    parameter("opcode", &format!("{:#04x}", entry.opcode));
    parameter("operation", entry.operation);
    match &entry.subject {
        Subject::None => {}
        Subject::User(name) => parameter("subjectUser", name),
        Subject::Key { id, label } => {
            parameter("key", &id.map(|id| id.to_string()).unwrap_or_default());
            parameter("label", label);
        }
        Subject::Signature { key, spki, site, scheme, message_sha256 } => {
            parameter("key", &key.map(|id| id.to_string()).unwrap_or_default());
            parameter("spki", &spki.map(|spki| spki.to_string()).unwrap_or_default());
            parameter("site", site);
            parameter("scheme", scheme.map_or("", |scheme| SchemeArgument(scheme).name()));
            parameter("messageSha256", &HEXLOWER.encode(message_sha256));
        }
        Subject::Checkpoint { cluster, signature } => {
            parameter("cluster", &cluster.to_string());
            parameter("signature", &HEXLOWER.encode(signature));
        }
    }
    parameter("outcome", outcome(entry.outcome));
    parameter("detail", entry.detail);
    line.push(']');
}

/// A PARAM-VALUE (section 6.3.3). Control characters, which may be in a peer's text, would end the line: they are replaced.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in printable(value).chars() {
        if matches!(c, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A MSGID: 1 to 32 printable ASCII characters.
fn message_id(operation: &str) -> String {
    let id: String = operation.chars().filter(char::is_ascii_graphic).take(32).collect();
    if id.is_empty() { "-".to_owned() } else { id }
}

/// A TIMESTAMP with microseconds; `-` for a time that it can't tell.
fn time(micros: u64) -> String {
    match timestamp(UnixMillis(micros / 1000)).strip_suffix('Z') {
        Some(seconds) => format!("{seconds}.{:06}Z", micros % 1_000_000),
        None => "-".to_owned(),
    }
}
