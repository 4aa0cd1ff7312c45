use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, QuorumTokenId, SpkiSha256};
use crate::names::UserName;
use crate::secret::Secret;
use crate::session::UnixMillis;

/// Longest public key and longest signature of a user's own key, in bytes.
pub const MAX_OWN_KEY: usize = 1024;

/// Most approvals that a value may ask for; 1 asks for none.
pub const MAX_QUORUM: u8 = 8;

/// Operations that share one value of M.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuorumService {
    /// Making, deleting and changing users.
    User,
    /// The cluster: its key, how it is unsealed, backups.
    Cluster,
    /// These values themselves.
    Quorum,
    /// Changing, sharing, wrapping, rotating and deleting one key, and unwrapping with it; the key has its own value.
    KeyManagement,
    /// Using one key's secret; the key has its own value.
    KeyUsage,
}

impl QuorumService {
    /// Those whose values the cluster has. Those of keys are set when a key is made.
    pub const OF_CLUSTER: [Self; 3] = [Self::User, Self::Cluster, Self::Quorum];

    /// The name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Cluster => "cluster",
            Self::Quorum => "quorum",
            Self::KeyManagement => "key-management",
            Self::KeyUsage => "key-usage",
        }
    }
}

impl fmt::Display for QuorumService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for QuorumService {
    type Err = String;

    /// Reads the name of one whose value the cluster has.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::OF_CLUSTER.into_iter().find(|service| service.name() == text);
        found.ok_or_else(|| "no such service; one of user, cluster, quorum".to_owned())
    }
}

/// What a user's own key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyPurpose {
    /// Approvals of what others propose.
    Approval,
    /// Login challenges.
    SecondFactor,
}

impl KeyPurpose {
    /// The word in the text that is signed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::SecondFactor => "second factor",
        }
    }

    /// What the key signs to prove that its owner has it.
    pub fn registration(self, cluster: ClusterId, user: &UserName, key: SpkiSha256) -> String {
        format!(
            "hsm key registration v1\ncluster: {cluster}\nuser: {user}\npurpose: {}\nkey: {key}\n",
            self.name()
        )
    }
}

/// Registers one's own public key, a crypto user's for approvals only: RSA of 2,048 bits or more, P-256 or Ed25519. Ends the user's other sessions if it
/// is the second factor.
///
/// Signatures are those of openssl: `openssl dgst -sha256 -sign` for RSA (PKCS#1 v1.5) and P-256 (ASN.1),
/// `openssl pkeyutl -sign -rawin` for Ed25519.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserRegisterKey {
    /// What for.
    pub purpose: KeyPurpose,
    /// DER SubjectPublicKeyInfo.
    #[serde(with = "serde_bytes")]
    pub spki: Vec<u8>,
    /// Signature of [`KeyPurpose::registration`].
    #[serde(with = "serde_bytes")]
    pub proof: Vec<u8>,
    /// The current password, if the user has one.
    pub current: Option<Secret>,
}

/// Takes a user's registered key away. Needs the role admin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserRemoveKey {
    /// Whose.
    pub name: UserName,
    /// Which.
    pub purpose: KeyPurpose,
}

/// Asks for a token that others approve, for one operation with these arguments. Asked again in the same session, it gives the
/// same token. Once it is approved the operation is sent as ever: it finds its token and uses it up.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuorumPropose {
    /// Body of the request: opcode and content. Secrets and the idempotency key are not part of what is approved.
    pub operation: Secret,
}

/// Hands in an approver's signature of [`QuorumToken::text`]. Any admin may; if it is about a key, its owner and whoever it is
/// shared with. Counts once for each approver.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuorumApprove {
    /// The token.
    pub token: QuorumTokenId,
    /// Whose signature it is.
    pub approver: UserName,
    /// The signature, as for [`UserRegisterKey`].
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

/// Deletes a token.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct QuorumDelete {
    /// The token.
    pub token: QuorumTokenId,
}

/// Lists the tokens that can still be used; those about keys only to who may use these keys.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct QuorumList;

/// Asks for the values in force.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct QuorumPolicy;

/// Sets how many approvals a service needs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct QuorumSetValue {
    /// The service.
    pub service: QuorumService,
    /// 2 to [`MAX_QUORUM`] approvals; 1 asks for none.
    pub value: u8,
}

/// Sets how long new tokens last, and whether who proposes may approve.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct QuorumSetPolicy {
    /// Seconds, 60 to 86,400; none leaves it.
    pub timeout_secs: Option<u32>,
    /// Whether a proposer's own approval counts; none leaves it.
    pub self_approval: Option<bool>,
}

/// The values in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumRules {
    /// Approvals for the service user.
    pub user: u8,
    /// Approvals for the service cluster.
    pub cluster: u8,
    /// Approvals for the service quorum.
    pub quorum: u8,
    /// How long a token lasts, in seconds.
    pub timeout_secs: u32,
    /// Whether a proposer's own approval counts.
    pub self_approval: bool,
    /// Admins with a registered key.
    pub approvers: u32,
}

/// A proposal and its approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumToken {
    /// The token.
    pub id: QuorumTokenId,
    /// Whose value counts.
    pub service: QuorumService,
    /// Who proposed it, and alone can use it, in the same session.
    pub proposer: UserName,
    /// The approval data: the operation and its arguments in words. Approvers sign these bytes.
    pub text: String,
    /// Approvals that it needs; if it is about two keys, the higher value of theirs.
    pub needed: u8,
    /// Whose signatures are there.
    pub approvers: Vec<UserName>,
    /// When it ends.
    pub expires_at: UnixMillis,
}

/// Tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumTokens {
    /// Those that can still be used.
    pub tokens: Vec<QuorumToken>,
}
