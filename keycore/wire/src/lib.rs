//! Vocabulary and codec of the HSM engine's socket.
//!
//! Everything that a client and an engine say to each other is a type of this crate, and there is no second set
//! of types behind it: the engine's rules speak the same names. The crate does no I/O and no cryptography.
//! `docs/wire-protocol.md` describes the bytes; its golden frames are decoded by this crate's tests.
//!
//! * [`frame`]: length-prefixed frames, bounded before anything is allocated
//! * [`Request`], [`Reply`], [`Operation`]: the table of operations, one file each under `ops/`
//! * [`Refusal`]: why an engine did not do what it was asked, and who is to blame

mod algorithm;
mod attribute;
pub mod frame;
mod ids;
mod list;
mod mechanism;
mod names;
mod ops;
mod refusal;
mod request;
mod secret;
mod session;

pub use algorithm::{KeyAlgorithm, KeyClass, MAX_GENERIC_SECRET, SignatureScheme, UnknownCode};
pub use attribute::{Attribute, AttributeTemplate, Attributes, UnknownAttribute};
pub use ids::{ClusterId, IdempotencyKey, KeyId, QuorumTokenId, SessionHandle, SpkiSha256, UserId};
pub use mechanism::{CipherMechanism, DeriveMechanism, EcdsaEncoding, Hash, SignMechanism, WrapMechanism};
pub use names::{InvalidName, KeyLabel, UserName, ZoneName};
pub use ops::audit::{AuditAnchor, AuditAnchorList, AuditAnchors};
pub use ops::backup::{
    BackupChunk, BackupContent, BackupCreate, BackupEnd, BackupEndBy, BackupInfo, BackupList, BackupPage,
    BackupRestore, BackupVerify, MAX_BACKUP_CHUNK, MAX_BACKUP_PAGE,
};
pub use ops::cluster::{
    ActivateCluster, BackupHealth, ClusterInfo, ClusterState, ClusterStatus, InitializeCluster, RestoredFrom,
};
pub use ops::crypto::{
    Ciphertext, Decrypt, Digest, DigestValue, Encrypt, MAX_CRYPTO_INPUT, Plaintext, SignData, Signer,
    VerifyData,
};
pub use ops::delete_key::DeleteKey;
pub use ops::derive_wrap::{DeriveKey, KeyForm, MAX_WRAPPED, UnwrapKey, WrapKey, WrappedKey};
pub use ops::find_key::{FindKey, KeySelector};
pub use ops::generate_key::{GenerateKey, KeyInfo, KeyTemplate};
pub use ops::hello::{Hello, HelloReply, Limits, MAGIC, VERSION};
pub use ops::identity::{
    CertificationRequest, ClusterCertificateStatus, ClusterCsr, ClusterName, MAX_CLUSTER_CERTIFICATES,
    MAX_CLUSTER_CHAIN, MAX_CLUSTER_NAMES, SetClusterCertificate,
};
pub use ops::import_key::{ImportKey, MAX_PKCS8, PlainKey};
pub use ops::list_keys::{KeyPage, ListKeys, MAX_PAGE};
pub use ops::login::{Challenge, LoginChallenge, SignedLogin};
pub use ops::login::{Login, Logout, MAX_SESSION_TOKEN, PeerLogin, Resume, SessionGrant, SessionToken};
pub use ops::ping::Ping;
pub use ops::public_key::{PublicKey, PublicKeyReply};
pub use ops::quorum::*;
pub use ops::random::{MAX_RANDOM, Random, RandomBytes};
pub use ops::rotate_key::{ListSessionKeys, MAX_SESSION_KEYS, RotateKey, SessionKeyList};
pub use ops::self_test::{SELF_TEST_PAUSE_SECS, SelfTest, SelfTestOutcome, SelfTestReport};
pub use ops::session::{
    MAX_SESSION_PAGE, MAX_SESSION_PEERS, SessionEnd, SessionInfo, SessionList, SessionPage, SessionPeer,
    SessionsOf,
};
pub use ops::set_attribute::{AttributeChange, SetAttribute};
pub use ops::share_key::{KeyShares, ListSharedKeys, ListShares, MAX_SHARES, ShareKey, UnshareKey};
pub use ops::sign::{MAX_SIGN_MESSAGE, Sign, Signature};
pub use ops::tls_sign::{MAX_SITE, MAX_TLS_MESSAGE, TimedSignature, TlsSign, TlsSignTimed};
pub use ops::unseal::{
    ChangeUnseal, ConfirmCustodians, InitializeBy, MAX_CUSTODIANS, MAX_UNSEAL_PART, NewUnseal,
    PrepareCustodians, PreparedCustodians, Resealing, RotateClusterKey, UnsealCluster, UnsealMethod,
    UnsealStatus,
};
pub use ops::user::{
    MAX_PASSWORD, MIN_PASSWORD, UserChangePassword, UserCreate, UserDelete, UserInfo, UserList, UserLogout,
    UserPage, UserSetPeerUid,
};
pub use ops::zeroize_cluster::ZeroizeCluster;
pub use ops::zeroize_keys::{ZeroizeKeys, Zeroized};
pub use refusal::{Blame, Refusal, RefusalCode};
pub use request::{Done, Operation, Repeat, Reply, ReplyError, Request, decode_reply, encode_request};
pub use secret::Secret;
pub use session::{Role, UnixMillis};
