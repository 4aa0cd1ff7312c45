//! What one record says.

use keycore_wire::{ClusterId, KeyId, RefusalCode, SessionHandle, SignatureScheme, SpkiSha256, UserId};
use serde::{Deserialize, Serialize};

use crate::peer::{self, Peer};

/// Longest detail, in bytes; a longer one is cut.
pub const MAX_DETAIL: usize = 512;

/// Longest of the other texts, in bytes: that of a DNS name.
const MAX_TEXT: usize = 253;

/// One audited event: who did what to what, when, and how it ended. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// When, in microseconds since 1970-01-01T00:00:00Z by the engine's clock.
    pub time_micros: u64,
    /// Number of the connection within the life of the replica's process; 0 for the engine itself.
    pub connection: u64,
    /// Who is at the other end.
    #[serde(with = "peer::optional")]
    pub peer: Option<Peer>,
    /// The session that it was done in.
    pub session: Option<SessionHandle>,
    /// Who was logged in, or tried to log in.
    #[serde(borrow)]
    pub user: Option<User<'a>>,
    /// What sort of command it was.
    pub command: Command,
    /// Its code in the wire protocol; 0 if it is none of its operations.
    pub opcode: u8,
    /// Name of the operation.
    pub operation: &'a str,
    /// What it was done to.
    #[serde(borrow)]
    pub subject: Subject<'a>,
    /// How it ended.
    pub outcome: Outcome,
    /// For people; at most [`MAX_DETAIL`] bytes are kept.
    pub detail: &'a str,
}

/// What sort of command a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Nobody's: the engine itself wrote it.
    Engine,
    /// What uses keys or reads.
    Data,
    /// What changes users, keys or the cluster, logins included: on the disk before it is answered.
    Management,
    /// A request that could not be read.
    Unknown,
}

/// A user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User<'a> {
    /// The user, if the name is one of the cluster's.
    pub id: Option<UserId>,
    /// The name.
    pub name: &'a str,
}

/// What an operation was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject<'a> {
    /// Nothing in particular, or the cluster.
    None,
    /// A user, by name.
    User(&'a str),
    /// A key.
    Key {
        /// The key, if it was found or made.
        id: Option<KeyId>,
        /// Its label, or the selector that was asked for.
        label: &'a str,
    },
    /// A signature, made or refused.
    Signature {
        /// The key, if it was found.
        key: Option<KeyId>,
        /// Its public key, if the request named it by that.
        spki: Option<SpkiSha256>,
        /// The site that the TLS client asked for; empty if none.
        site: &'a str,
        /// The scheme.
        scheme: Option<SignatureScheme>,
        /// SHA-256 of the message, so that a signature found elsewhere can be looked up.
        message_sha256: [u8; 32],
    },
    /// The engine vouches for all records before this one; see [`checkpoint`](crate::checkpoint).
    Checkpoint {
        /// The cluster whose audit key signed.
        cluster: ClusterId,
        /// Ed25519 signature, 64 bytes.
        signature: &'a [u8],
    },
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is about to be done: the record of how it ended follows. If none does, the engine died in between and the change may
    /// or may not have been made.
    Begun,
    /// It was done.
    Done,
    /// It was refused.
    Refused(RefusalCode),
}

impl<'a> Entry<'a> {
    /// What an engine did by itself, for nobody. Done, unless the caller says otherwise.
    pub fn by_engine(time_micros: u64, operation: &'a str, subject: Subject<'a>, detail: &'a str) -> Self {
        Self {
            time_micros,
            connection: 0,
            peer: None,
            session: None,
            user: None,
            command: Command::Engine,
            opcode: 0,
            operation,
            subject,
            outcome: Outcome::Done,
            detail,
        }
    }
}

impl Entry<'_> {
    /// The same with its texts cut to their limits, so that no peer can make a long record.
    pub(crate) fn bounded(&self) -> Entry<'_> {
        Entry {
            time_micros: self.time_micros,
            connection: self.connection,
            peer: self.peer,
            session: self.session,
            user: self.user.map(|user| User { id: user.id, name: cut(user.name, MAX_TEXT) }),
            command: self.command,
            opcode: self.opcode,
            operation: cut(self.operation, MAX_TEXT),
            subject: match &self.subject {
                Subject::None => Subject::None,
                Subject::User(name) => Subject::User(cut(name, MAX_TEXT)),
                Subject::Key { id, label } => Subject::Key { id: *id, label: cut(label, MAX_TEXT) },
                Subject::Signature { key, spki, site, scheme, message_sha256 } => Subject::Signature {
                    key: *key,
                    spki: *spki,
                    site: cut(site, MAX_TEXT),
                    scheme: *scheme,
                    message_sha256: *message_sha256,
                },
                Subject::Checkpoint { cluster, signature } => Subject::Checkpoint {
                    cluster: *cluster,
                    signature: &signature[..signature.len().min(64)],
                },
            },
            outcome: self.outcome,
            detail: cut(self.detail, MAX_DETAIL),
        }
    }
}

/// The longest beginning of `text` that has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
