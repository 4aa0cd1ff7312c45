use serde::{Deserialize, Serialize};

use crate::ids::ClusterId;
use crate::names::{UserName, ZoneName};
use crate::ops::identity::ClusterCertificateStatus;
use crate::ops::unseal::UnsealStatus;
use crate::secret::Secret;
use crate::session::UnixMillis;

/// Where a cluster is in its life, in CloudHSM's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterState {
    /// The store is empty.
    Uninitialized,
    /// The cluster key exists; nobody can log in yet.
    Initialized,
    /// The first admin exists.
    Active,
    /// There is a cluster, and this engine waits for what unseals it.
    Sealed,
}

impl ClusterState {
    /// The word that people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uninitialized => "uninitialized",
            Self::Initialized => "initialized",
            Self::Active => "active",
            Self::Sealed => "sealed",
        }
    }
}

/// Asks for the cluster's and this engine's state. Needs no login.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ClusterInfo;

/// State of the cluster as one engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster, once it is initialized.
    pub cluster: Option<ClusterId>,
    /// Where it is in its life.
    pub state: ClusterState,
    /// The answering replica's number on its machine, from 0.
    pub replica: u16,
    /// The answering engine's process id.
    pub pid: u32,
    /// The answering engine's version.
    pub version: String,
    /// When that engine started.
    pub started_at: UnixMillis,
    /// The store's revision that the engine has seen: counts every change of users and keys.
    pub revision: u64,
    /// Users in the cluster.
    pub users: u32,
    /// Keys in the cluster.
    pub keys: u64,
    /// The self-test that failed, if one did: the engine then does nothing but answer this and the like.
    pub failed_self_test: Option<String>,
    /// The backup that the cluster was restored from, if it was.
    pub restored: Option<Box<RestoredFrom>>,
    /// How its backups go, once one was made or failed.
    pub backups: Option<Box<BackupHealth>>,
    /// How the cluster key is kept, once there is one.
    pub unseal: Option<Box<UnsealStatus>>,
    /// Where the answering engine runs, if its configuration says so.
    pub zone: Option<ZoneName>,
    /// Connections that the answering engine has, this one included.
    pub connections: u32,
    /// Those of them that are logged in.
    pub sessions: u32,
    /// The certificate that the engines show on the network, once it is set; none while the engine is sealed.
    pub certificate: Option<Box<ClusterCertificateStatus>>,
}

/// Which backup a cluster was restored from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredFrom {
    /// The revision that it held: what was changed later is lost.
    pub revision: u64,
    /// When it was made.
    pub made_at: UnixMillis,
    /// When it was restored.
    pub restored_at: UnixMillis,
}

/// How a cluster's backups go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHealth {
    /// When the last one was made.
    pub made_at: Option<UnixMillis>,
    /// Its name.
    pub name: String,
    /// Failures since then.
    pub failures: u32,
    /// What the last failure was; empty if there was none since.
    pub failure: String,
}

/// Makes the cluster key, sealed by what the engine's configuration unseals with. Needs the state
/// `Uninitialized`; whoever may open the socket may do it, once.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct InitializeCluster;

/// Makes the first admin. Needs the state `Initialized`; whoever may open the socket may do it, once.
#[derive(Debug, Serialize, Deserialize)]
pub struct ActivateCluster {
    /// The first admin's name.
    pub admin: UserName,
    /// Its password.
    pub password: Secret,
}
