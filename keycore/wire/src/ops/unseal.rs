use serde::{Deserialize, Serialize};

use crate::list::at_most;
use crate::ops::cluster::ClusterStatus;
use crate::secret::Secret;
use crate::session::UnixMillis;

/// Longest share or secret that unseals, in bytes, wherever it comes from.
pub const MAX_UNSEAL_PART: usize = 4096;

/// Most custodians.
pub const MAX_CUSTODIANS: usize = 16;

/// What unseals a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnsealMethod {
    /// A key of 32 random bytes or more, in each engine's configuration.
    Secret,
    /// A passphrase there, stretched with Argon2id (RFC 9106).
    Passphrase,
    /// Shares that people have (Shamir's scheme).
    Custodians {
        /// How many are needed: 2 to `of`.
        needed: u8,
        /// How many there are: at most 16.
        of: u8,
    },
}

impl UnsealMethod {
    /// The word that people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Passphrase => "passphrase",
            Self::Custodians { .. } => "custodians",
        }
    }
}

/// How the cluster key is kept, as one engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsealStatus {
    /// What unseals the cluster.
    pub method: UnsealMethod,
    /// Custodians' shares that this sealed engine has.
    pub shares_given: u8,
    /// The generation of the cluster key that seals; none while the engine is sealed.
    pub generation: Option<u32>,
    /// How far a rotation of the cluster key is, while one goes on.
    pub resealing: Option<Resealing>,
}

/// How far a rotation of the cluster key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealing {
    /// Records that were looked at and are sealed with the new generation.
    pub done: u64,
    /// Records that there were in all, when it began.
    pub total: u64,
}

/// Makes the cluster key and decides what unseals it: the secret in the engine's configuration, as a key or as a passphrase, or
/// custodians' shares. Needs the state `Uninitialized`; whoever may open the socket may do it, once.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct InitializeBy {
    /// What unseals the cluster from then on.
    pub method: UnsealMethod,
}

/// A cluster has something new that unseals it.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewUnseal {
    /// State of the cluster.
    pub status: Box<ClusterStatus>,
    /// The custodians' shares, `hsm-unseal-share-1-…`, which are told this once; none for other methods.
    pub shares: Vec<Secret>,
}

/// Changes what unseals the cluster to a secret that whoever asks has, while it goes on. Needs the role admin. Replicas that run go on;
/// those that start need the new secret in their configuration. For custodians, whose shares nobody has yet, there are
/// [`PrepareCustodians`] and [`ConfirmCustodians`].
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeUnseal {
    /// What unseals the cluster from then on; custodians are refused.
    pub method: UnsealMethod,
    /// The new secret, 16 bytes or more.
    pub secret: Option<Secret>,
}

/// Makes shares for new custodians, and changes nothing: what unseals the cluster stays until [`ConfirmCustodians`] shows that the
/// shares are kept. Needs the role admin. A second one takes the place of the first.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PrepareCustodians {
    /// How many shares are needed: 2 to `of`.
    pub needed: u8,
    /// How many there are: at most 16.
    pub of: u8,
}

/// Shares that unseal nothing yet.
#[derive(Debug, Serialize, Deserialize)]
pub struct PreparedCustodians {
    /// The custodians' shares, `hsm-unseal-share-1-…`, which are told this once.
    pub shares: Vec<Secret>,
    /// Until when they can be confirmed.
    pub expires_at: UnixMillis,
}

/// Lets prepared custodians unseal the cluster, in the place of what does now. Needs the role admin. Replicas that run go on; those that
/// start need shares. Said again with shares that unseal the cluster already, it changes nothing.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConfirmCustodians {
    /// As many of the shares as are needed, or more: that they are kept. Of more, each is looked at; at most [`MAX_CUSTODIANS`].
    #[serde(deserialize_with = "at_most::<MAX_CUSTODIANS, _, _>")]
    pub shares: Vec<Secret>,
}

/// Makes a new generation of the cluster key, which seals from then on; all records are sealed anew in the background, and then the
/// old generation is dropped, and the session tokens that it signed end. Needs the role admin.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct RotateClusterKey;

/// Gives a sealed engine one custodian's share, or the whole secret where no custodians have it. The answering engine keeps it, in
/// locked memory, until it is unsealed or ten minutes have passed since the first. Needs no login.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnsealCluster {
    /// `hsm-unseal-share-1-…`, or the unseal secret; at most [`MAX_UNSEAL_PART`] bytes.
    pub part: Secret,
}
