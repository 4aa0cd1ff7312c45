use serde::{Deserialize, Serialize};

use crate::ids::ClusterId;
use crate::ops::cluster::ClusterState;

/// What a hello begins with, so that a stray client of another protocol is told apart.
pub const MAGIC: [u8; 4] = *b"HSMK";

/// The protocol version of this crate.
pub const VERSION: u16 = 1;

/// First request on every connection: which versions the client speaks.
///
/// Refused with `UnsupportedVersion` if the ranges don't meet, `HelloExpected` if anything else comes first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// Always [`MAGIC`].
    pub magic: [u8; 4],
    /// Lowest version that the client speaks.
    pub min_version: u16,
    /// Highest version that the client speaks.
    pub max_version: u16,
    /// Name and version of the client program, for the engine's log; at most 64 bytes are kept.
    pub client: &'a str,
}

impl<'a> Hello<'a> {
    /// A hello of this crate's version.
    pub fn new(client: &'a str) -> Self {
        Self { magic: MAGIC, min_version: VERSION, max_version: VERSION, client }
    }
}

/// The engine's answer: what both speak from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// The version to speak: the highest that both know.
    pub version: u16,
    /// The cluster, once it is initialized.
    pub cluster: Option<ClusterId>,
    /// Where the cluster is in its life.
    pub state: ClusterState,
    /// The replica's number on its machine, from 0.
    pub replica: u16,
    /// What the engine takes on this connection.
    pub limits: Limits,
}

/// Limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest frame either side may send, header included, in bytes.
    pub max_frame: u32,
    /// Most requests without an answer; what comes above it is refused with `TooManyInFlight`.
    pub max_in_flight: u16,
}
