//! What logs are verified against: the cluster's audit key, and where each log stood.

use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::{BASE64, HEXLOWER};
use hsm_certs::to_pem;
use keycore_audit::AuditKey;
use keycore_wire::{AuditAnchor, AuditAnchors, ClusterId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::record::moment;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::{self, OutputFile};
use crate::output::{Answer, table};

/// Longest file of anchors, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Anchors in a file, in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct AnchorFile {
    cluster: String,
    public_key: String,
    anchors: Vec<AnchorLine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AnchorLine {
    replica: u16,
    boot: u32,
    time_micros: u64,
    sequence: u64,
    head: String,
    signature: String,
}

/// What a log is held against; every anchor is signed by the key.
pub(super) struct Trusted {
    pub(super) key: Option<AuditKey>,
    pub(super) anchors: Vec<AuditAnchor>,
}

/// Where the verifier's trust comes from.
#[derive(Debug, Args)]
pub(crate) struct TrustArguments {
    /// The cluster's audit key in PEM, from `hsm audit public-key`; kept where the log's writer can't change it
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Anchors that `hsm audit anchors` wrote
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// Ask the engines for the anchors and, without --public-key, for the key; takes a login
    #[arg(long, conflicts_with = "anchors")]
    live: bool,
}

impl TrustArguments {
    pub(super) fn load(&self, connection: &Connection) -> Result<Trusted, Failure> {
        let pinned = self.public_key.as_deref().map(read_key).transpose()?;
        let (source, told) = match &self.anchors {
            Some(path) => (path.as_path(), Some(read_anchors(path)?)),
            None if self.live => (Path::new("the engine's anchors"), Some(fetch(connection)?)),
            None => (Path::new(""), None),
        };
        let Some((cluster, told_key, anchors)) = told else {
            return Ok(Trusted { key: pinned, anchors: Vec::new() });
        };
        let key = pinned.unwrap_or(told_key);
        match anchors.iter().find(|anchor| !key.signed(cluster, anchor)) {
            Some(anchor) => Err(content(
                source,
                format!("the anchor of replica {} is not signed by the audit key", anchor.replica),
            )),
            None => Ok(Trusted { key: Some(key), anchors }),
        }
    }
}

type Told = (ClusterId, AuditKey, Vec<AuditAnchor>);

fn fetch(connection: &Connection) -> Result<Told, Failure> {
    let list = connection.as_user(|user| user.call(&AuditAnchors))?;
    Ok((list.cluster, AuditKey(list.public_key), list.anchors))
}

/// `hsm audit public-key`
pub(super) fn public_key(connection: &Connection, out: &OutputFile) -> Result<Answer, Failure> {
    out.check()?;
    let (cluster, key, _) = fetch(connection)?;
    let pem = to_pem("PUBLIC KEY", &key.to_spki());
    out.write("the audit key", &pem, json!({ "cluster": cluster.to_string(), "public_key": pem }))
}

/// `hsm audit anchors`
pub(super) fn show(connection: &Connection, out: Option<&Path>) -> Result<Answer, Failure> {
    let (cluster, key, anchors) = fetch(connection)?;
    let file = AnchorFile {
        cluster: HEXLOWER.encode(&cluster.0),
        public_key: to_pem("PUBLIC KEY", &key.to_spki()),
        anchors: anchors
            .iter()
            .map(|anchor| AnchorLine {
                replica: anchor.replica,
                boot: anchor.boot,
                time_micros: anchor.at_micros,
                sequence: anchor.sequence,
                head: HEXLOWER.encode(&anchor.head),
                signature: HEXLOWER.encode(&anchor.signature),
            })
            .collect(),
    };
    let rows: Vec<_> = file
        .anchors
        .iter()
        .map(|line| {
            [
                line.replica.to_string(),
                line.sequence.to_string(),
                line.boot.to_string(),
                moment(line.time_micros),
                line.head.clone(),
            ]
        })
        .collect();
    let mut text = table(["REPLICA", "RECORD", "BOOT", "TIME", "HEAD"], &rows);
    if let Some(path) = out {
        let content = serde_json::to_vec_pretty(&file).map_err(|error| content(path, error.to_string()))?;
        // Older anchors are replaced: a log that leads through the newer ones leads through those too.
        file::write(path, &content, 0o644, true)?;
        text.push_str(&format!("wrote them to {}", path.display()));
    }
    Ok(Answer::new(text, file))
}

fn read_key(path: &Path) -> Result<AuditKey, Failure> {
    let text = String::from_utf8(file::read(path, MAX_FILE)?).map_err(|_| not_a_key(path))?;
    from_pem(&text).ok_or_else(|| not_a_key(path))
}

fn read_anchors(path: &Path) -> Result<Told, Failure> {
    let bytes = file::read(path, MAX_FILE)?;
    let file: AnchorFile = serde_json::from_slice(&bytes)
        .map_err(|error| content(path, format!("not a file of `hsm audit anchors`: {error}")))?;
    let digits = |text: &str| {
        HEXLOWER.decode(text.as_bytes()).map_err(|error| content(path, format!("not hexadecimal: {error}")))
    };
    let cluster = digits(&file.cluster)?.try_into().map_err(|_| content(path, "not a cluster's id"))?;
    let anchor = |line: &AnchorLine| {
        Ok(AuditAnchor {
            replica: line.replica,
            boot: line.boot,
            at_micros: line.time_micros,
            sequence: line.sequence,
            head: digits(&line.head)?.try_into().map_err(|_| content(path, "not a head of 32 bytes"))?,
            signature: digits(&line.signature)?,
        })
    };
    let anchors = file.anchors.iter().map(anchor).collect::<Result<_, Failure>>()?;
    Ok((ClusterId(cluster), from_pem(&file.public_key).ok_or_else(|| not_a_key(path))?, anchors))
}

fn from_pem(text: &str) -> Option<AuditKey> {
    let body =
        text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let digits: String = body.split_whitespace().collect();
    AuditKey::from_spki(&BASE64.decode(digits.as_bytes()).ok()?)
}

fn not_a_key(path: &Path) -> Failure {
    content(path, "not an Ed25519 public key in PEM, as `hsm audit public-key` writes it")
}

fn content(path: &Path, problem: impl Into<String>) -> Failure {
    Failure::Content { path: path.to_owned(), problem: problem.into(), advice: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_pem() {
        let pem = to_pem("PUBLIC KEY", &AuditKey([7; 32]).to_spki());
        assert_eq!(from_pem(&pem), Some(AuditKey([7; 32])));
        assert_eq!(from_pem(&pem.replace("PUBLIC", "PRIVATE")), None);
        assert_eq!(from_pem(&pem.replacen('M', "N", 1)), None);
    }
}
