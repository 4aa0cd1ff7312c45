use serde::{Deserialize, Serialize};

use crate::ids::ClusterId;
use crate::ops::unseal::UnsealMethod;
use crate::secret::Secret;
use crate::session::UnixMillis;

/// Most bytes of a backup file in one request.
pub const MAX_BACKUP_CHUNK: usize = 64 * 1024;

/// Most backups in one page.
pub const MAX_BACKUP_PAGE: u16 = 64;

/// Makes a backup now, in the directory and for the recipients that the engine's configuration names, verifies it, and
/// deletes the oldest beyond those to be kept. Needs the role admin. Answers when it is on the disk, which takes seconds
/// for a hundred thousand keys.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct BackupCreate;

/// Lists the backups in the engine's directory in the order of their names, which is that of their times. Needs the role
/// admin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupList {
    /// The last name of the page before, or none for the first page.
    pub after: Option<String>,
    /// Most entries wanted; [`MAX_BACKUP_PAGE`] at most are given.
    pub limit: u16,
}

/// What a backup says of itself, without being opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupInfo {
    /// The file's name in the engine's directory.
    pub name: String,
    /// The file's length in bytes.
    pub size: u64,
    /// What is in it.
    pub content: Box<BackupContent>,
    /// Fingerprints of the recipients: the first 16 hexadecimal digits of the SHA-256 of `age1…`.
    pub recipients: Vec<String>,
    /// SHA-256 of what follows the header, in hexadecimal.
    pub payload_sha256: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupContent {
    /// Whose backup it is.
    pub cluster: ClusterId,
    /// The store's revision that it holds.
    pub revision: u64,
    /// When it was made.
    pub made_at: UnixMillis,
    /// The version of the engine that made it.
    pub engine: String,
    /// Records of all kinds.
    pub records: u64,
    /// Users.
    pub users: u64,
    /// Keys.
    pub keys: u64,
}

/// One page of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPage {
    /// The backups.
    pub backups: Vec<BackupInfo>,
    /// Files of this page that should be backups and are not whole: name, and what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// Begins to verify a backup on this connection: its bytes follow by [`BackupChunk`]. Needs the role admin.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupVerify {
    /// The identity of one of the backup's recipients: `AGE-SECRET-KEY-1…`.
    pub identity: Secret,
}

/// Begins to restore a backup on this connection: its bytes follow by [`BackupChunk`]. Needs the state
/// `Uninitialized`; whoever may open the socket may do it, once. A restore that was under way is undone.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupRestore {
    /// The identity of one of the backup's recipients: `AGE-SECRET-KEY-1…`.
    pub identity: Secret,
    /// Whether to verify all of it and then to leave the cluster uninitialized.
    pub rehearse: bool,
}

/// The next bytes of the backup that is verified or restored on this connection.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct BackupChunk<'a> {
    /// Bytes before these.
    pub offset: u64,
    /// At most [`MAX_BACKUP_CHUNK`].
    #[serde(borrow, with = "serde_bytes")]
    pub bytes: &'a [u8],
}

/// The backup that is verified or restored on this connection is complete: what was restored is there now.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct BackupEnd;

/// The backup that is restored on this connection is complete, and this is to unseal its cluster from now on: the secret in the
/// engine's configuration, or new custodians' shares, which the answer tells this once; the engine is sealed then until they are
/// given. [`BackupEnd`] is the same with the configured secret, taken for a key if it looks like one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct BackupEndBy {
    /// The method.
    pub method: UnsealMethod,
}
