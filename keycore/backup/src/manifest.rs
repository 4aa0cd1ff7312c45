//! What is known of a backup without opening it: one line of text in its header.

use core::fmt::Write;
use core::str::FromStr;

use data_encoding::HEXLOWER;
use keycore_wire::{ClusterId, UnixMillis};

use crate::error::BackupError;
use crate::identity::Fingerprint;

/// What a backup says of itself. The header's MAC authenticates it towards whoever can open the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Whose backup it is.
    pub cluster: ClusterId,
    /// The store's revision that it holds.
    pub revision: u64,
    /// When it was made.
    pub made_at: UnixMillis,
    /// The engine's version that made it: a version number, without spaces.
    pub engine: String,
    /// How many records of each kind it has, by kind.
    pub counts: Vec<(u8, u64)>,
    /// Whom it is encrypted to.
    pub recipients: Vec<Fingerprint>,
    /// SHA-256 of everything behind the header.
    pub payload_sha256: [u8; 32],
}

impl Manifest {
    /// Type of the stanza that it is in.
    pub(crate) const STANZA: &'static str = "keycore-backup";
    /// Most recipients.
    pub const MAX_RECIPIENTS: usize = 32;
    const FORMAT: &'static str = "1";

    /// All records.
    pub fn records(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The stanza's line, its type first. As long for every hash.
    pub(crate) fn to_line(&self) -> String {
        let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(",") };
        let counts = list(self.counts.iter().map(|(kind, count)| format!("{kind}:{count}")).collect());
        let recipients = list(self.recipients.iter().map(ToString::to_string).collect());
        let mut line = format!("{} format={}", Self::STANZA, Self::FORMAT);
        let written = write!(
            line,
            " cluster={} revision={} time-ms={} engine={} records={counts} recipients={recipients} payload-sha256={}",
            HEXLOWER.encode(&self.cluster.0),
            self.revision,
            self.made_at.0,
            self.engine,
            HEXLOWER.encode(&self.payload_sha256),
        );
        debug_assert!(written.is_ok(), "a string takes every character");
        line
    }

    /// Reads the arguments of the stanza. Every value must be there, in this order.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, BackupError> {
        let mut arguments = arguments.iter();
        let mut value = |name: &str| {
            let value = arguments.next().and_then(|argument| argument.strip_prefix(name)?.strip_prefix('='));
            value.ok_or_else(bad)
        };
        if value("format")? != Self::FORMAT {
            return Err(BackupError::NotABackup("a newer version wrote it"));
        }
        Ok(Self {
            cluster: ClusterId(hex(value("cluster")?)?),
            revision: number(value("revision")?)?,
            made_at: UnixMillis(number(value("time-ms")?)?),
            engine: value("engine")?.to_owned(),
            counts: list(value("records")?, |item| {
                let (kind, count) = item.split_once(':').ok_or_else(bad)?;
                Ok((number(kind)?, number(count)?))
            })?,
            recipients: list(value("recipients")?, |item| hex(item).map(Fingerprint))?,
            payload_sha256: hex(value("payload-sha256")?)?,
        })
    }
}

fn bad() -> BackupError {
    BackupError::Damaged("its manifest can't be read".to_owned())
}

fn number<T: FromStr>(text: &str) -> Result<T, BackupError> {
    text.parse().map_err(|_| bad())
}

fn hex<const N: usize>(text: &str) -> Result<[u8; N], BackupError> {
    HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(bad)
}

fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, BackupError>) -> Result<Vec<T>, BackupError> {
    if text == "-" { Ok(Vec::new()) } else { text.split(',').map(item).collect() }
}
