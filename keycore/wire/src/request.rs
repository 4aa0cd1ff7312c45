//! The table of operations, and the bodies of requests and replies.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ops::audit::{AuditAnchorList, AuditAnchors};
use crate::ops::backup::{
    BackupChunk, BackupContent, BackupCreate, BackupEnd, BackupEndBy, BackupInfo, BackupList, BackupPage,
    BackupRestore, BackupVerify,
};
use crate::ops::cluster::{ActivateCluster, ClusterInfo, ClusterStatus, InitializeCluster};
use crate::ops::crypto::{
    Ciphertext, Decrypt, Digest, DigestValue, Encrypt, Plaintext, SignData, VerifyData,
};
use crate::ops::delete_key::DeleteKey;
use crate::ops::derive_wrap::{DeriveKey, UnwrapKey, WrapKey, WrappedKey};
use crate::ops::find_key::FindKey;
use crate::ops::generate_key::{GenerateKey, KeyInfo};
use crate::ops::hello::{Hello, HelloReply};
use crate::ops::identity::{CertificationRequest, ClusterCsr, SetClusterCertificate};
use crate::ops::import_key::ImportKey;
use crate::ops::list_keys::{KeyPage, ListKeys};
use crate::ops::login::{Challenge, LoginChallenge, SignedLogin};
use crate::ops::login::{Login, Logout, PeerLogin, Resume, SessionGrant};
use crate::ops::ping::Ping;
use crate::ops::public_key::{PublicKey, PublicKeyReply};
use crate::ops::quorum::{
    QuorumApprove, QuorumDelete, QuorumList, QuorumPolicy, QuorumPropose, QuorumRules, QuorumSetPolicy,
    QuorumSetValue, QuorumToken, QuorumTokens, UserRegisterKey, UserRemoveKey,
};
use crate::ops::random::{Random, RandomBytes};
use crate::ops::rotate_key::{ListSessionKeys, RotateKey, SessionKeyList};
use crate::ops::self_test::{SelfTest, SelfTestReport};
use crate::ops::session::{SessionEnd, SessionList, SessionPage};
use crate::ops::set_attribute::SetAttribute;
use crate::ops::share_key::{KeyShares, ListSharedKeys, ListShares, ShareKey, UnshareKey};
use crate::ops::sign::{Sign, Signature};
use crate::ops::tls_sign::{TimedSignature, TlsSign, TlsSignTimed};
use crate::ops::unseal::{
    ChangeUnseal, ConfirmCustodians, InitializeBy, NewUnseal, PrepareCustodians, PreparedCustodians,
    RotateClusterKey, UnsealCluster,
};
use crate::ops::user::{
    UserChangePassword, UserCreate, UserDelete, UserInfo, UserList, UserLogout, UserPage, UserSetPeerUid,
};
use crate::ops::zeroize_cluster::ZeroizeCluster;
use crate::ops::zeroize_keys::{ZeroizeKeys, Zeroized};
use crate::refusal::{Refusal, RefusalCode};

/// Whether a request may be sent again when its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Changes nothing, or the same thing again: any engine may be asked again.
    Safe,
    /// May have taken effect: the caller must look before it asks again.
    Unsafe,
}

/// One operation of the engine: the request's content, and what answers it.
pub trait Operation: Serialize {
    /// First byte of the request's body.
    const OPCODE: u8;
    /// The name in logs and audit records.
    const NAME: &'static str;
    /// Whether it may be sent again.
    const REPEAT: Repeat;
    /// What a success returns.
    type Reply: DeserializeOwned;
}

/// An operation succeeded and has nothing to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Done;

macro_rules! operations {
    ($($code:literal $repeat:ident $name:ident $(<$life:lifetime>)? => $reply:ident;)*) => {
        $(impl $(<$life>)? Operation for $name $(<$life>)? {
            const OPCODE: u8 = $code;
            const NAME: &'static str = stringify!($name);
            const REPEAT: Repeat = Repeat::$repeat;
            type Reply = $reply;
        })*

        /// A request as an engine sees it, borrowed from its frame.
        #[derive(Debug)]
        pub enum Request<'a> {
            $(#[doc = concat!("See [`", stringify!($name), "`](crate::", stringify!($name), ").")]
              $name($name $(<$life>)?),)*
        }

        impl<'a> Request<'a> {
            /// Opcode and name of every operation.
            pub const TABLE: &'static [(u8, &'static str)] = &[$(($code, stringify!($name))),*];

            /// Reads the body of a request.
            ///
            /// # Errors
            ///
            /// [`RefusalCode::UnknownOperation`] or [`RefusalCode::Malformed`]; the connection can go on.
            pub fn decode(body: &'a [u8]) -> Result<Self, Refusal> {
                let Some((&opcode, content)) = body.split_first() else {
                    return Err(Refusal::new(RefusalCode::Malformed, "empty request"));
                };
                match opcode {
                    $($code => decode_content(content, stringify!($name)).map(Self::$name),)*
                    unknown => Err(Refusal::new(
                        RefusalCode::UnknownOperation,
                        format!("no operation has opcode {unknown:#04x} in this version"),
                    )),
                }
            }

            /// Whether `body` is the body of a reply, success or refusal, to the operation with this opcode.
            pub fn is_reply(opcode: u8, body: &[u8]) -> bool {
                match opcode {
                    $($code => !matches!(
                        decode_reply::<$name $(<$life>)?>(body),
                        Err(ReplyError::Undecodable { .. })
                    ),)*
                    _ => false,
                }
            }

            /// The operation's code, for audit records.
            pub fn opcode(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $code,)*
                }
            }

            /// The operation's name, for logs and audit records.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }
        }
    };
}

// Opcodes are part of the protocol: never reuse one, add new ones at the end of their group.
operations! {
    0x01 Safe   Hello<'a> => HelloReply;
    0x02 Safe   Ping => Done;
    0x03 Safe   ClusterInfo => ClusterStatus;
    0x04 Unsafe InitializeCluster => ClusterStatus;
    0x05 Unsafe ActivateCluster => ClusterStatus;
    0x06 Unsafe InitializeBy => NewUnseal;
    0x07 Unsafe UnsealCluster => ClusterStatus;
    0x08 Unsafe ChangeUnseal => NewUnseal;
    0x09 Unsafe RotateClusterKey => ClusterStatus;
    0x0a Unsafe PrepareCustodians => PreparedCustodians;
    0x0b Safe   ConfirmCustodians => ClusterStatus;
    0x0c Safe   ClusterCsr => CertificationRequest;
    0x0d Unsafe SetClusterCertificate => ClusterStatus;

    0x10 Safe   Login => SessionGrant;
    0x11 Safe   Resume => SessionGrant;
    0x12 Safe   Logout => Done;
    0x13 Safe   PeerLogin => SessionGrant;
    0x14 Safe   LoginChallenge => Challenge;
    0x15 Safe   SignedLogin => SessionGrant;
    0x16 Safe   SessionList => SessionPage;
    0x17 Unsafe SessionEnd => Done;

    0x20 Safe   UserCreate => UserInfo;
    0x21 Safe   UserList => UserPage;
    0x22 Unsafe UserDelete => Done;
    0x23 Unsafe UserChangePassword => Done;
    0x24 Unsafe UserSetPeerUid => UserInfo;
    0x25 Safe   UserLogout => Done;
    0x26 Safe   UserRegisterKey => UserInfo;
    0x27 Unsafe UserRemoveKey => UserInfo;

    0x30 Safe   GenerateKey => KeyInfo;
    0x31 Safe   ImportKey => KeyInfo;
    0x32 Safe   ListKeys => KeyPage;
    0x33 Safe   FindKey => KeyInfo;
    0x34 Safe   PublicKey => PublicKeyReply;
    0x35 Unsafe DeleteKey => Done;
    0x36 Safe   SetAttribute => KeyInfo;
    0x37 Safe   ShareKey => Done;
    0x38 Unsafe UnshareKey => Done;
    0x39 Safe   ListShares => KeyShares;
    0x3a Safe   ListSharedKeys => KeyPage;
    0x3b Safe   RotateKey => KeyInfo;
    0x3c Safe   ListSessionKeys => SessionKeyList;
    0x3d Safe   ZeroizeKeys => Zeroized;
    0x3e Unsafe ZeroizeCluster => Done;

    0x40 Safe   TlsSign<'a> => Signature;
    0x41 Safe   Sign<'a> => Signature;
    0x42 Safe   Random => RandomBytes;
    0x43 Safe   SignData<'a> => Signature;
    0x44 Safe   VerifyData<'a> => Done;
    0x45 Safe   Encrypt<'a> => Ciphertext;
    0x46 Safe   Decrypt<'a> => Plaintext;
    0x47 Safe   Digest<'a> => DigestValue;
    0x48 Safe   TlsSignTimed<'a> => TimedSignature;

    0x80 Safe   DeriveKey<'a> => KeyInfo;
    0x81 Safe   WrapKey => WrappedKey;
    0x82 Safe   UnwrapKey<'a> => KeyInfo;

    0x90 Unsafe BackupCreate => BackupInfo;
    0x91 Safe   BackupList => BackupPage;
    0x92 Unsafe BackupVerify => Done;
    0x93 Unsafe BackupRestore => Done;
    0x94 Unsafe BackupChunk<'a> => Done;
    0x95 Unsafe BackupEnd => BackupContent;
    0x1e Unsafe BackupEndBy => NewUnseal;

    0x98 Safe   AuditAnchors => AuditAnchorList;

    0xa0 Safe   SelfTest => SelfTestReport;

    0x70 Safe   QuorumPropose => QuorumToken;
    0x71 Safe   QuorumApprove => QuorumToken;
    0x72 Unsafe QuorumDelete => Done;
    0x73 Safe   QuorumList => QuorumTokens;
    0x74 Safe   QuorumPolicy => QuorumRules;
    0x75 Unsafe QuorumSetValue => QuorumRules;
    0x76 Unsafe QuorumSetPolicy => QuorumRules;
}

fn decode_content<'a, T: serde::Deserialize<'a>>(content: &'a [u8], name: &str) -> Result<T, Refusal> {
    match postcard::take_from_bytes(content) {
        Ok((operation, [])) => Ok(operation),
        Ok((_, rest)) => {
            Err(Refusal::new(RefusalCode::Malformed, format!("{name}: {} bytes too many", rest.len())))
        }
        Err(error) => Err(Refusal::new(RefusalCode::Malformed, format!("{name}: {error}"))),
    }
}

/// What an engine answers, before it is encoded.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is named after its content")]
pub enum Reply {
    Done(Done),
    Hello(HelloReply),
    ClusterStatus(ClusterStatus),
    NewUnseal(NewUnseal),
    PreparedCustodians(PreparedCustodians),
    CertificationRequest(CertificationRequest),
    SessionGrant(SessionGrant),
    SessionPage(SessionPage),
    UserInfo(UserInfo),
    UserPage(UserPage),
    Challenge(Challenge),
    QuorumToken(QuorumToken),
    QuorumTokens(QuorumTokens),
    QuorumRules(QuorumRules),
    KeyInfo(Box<KeyInfo>),
    KeyPage(KeyPage),
    KeyShares(KeyShares),
    SessionKeyList(SessionKeyList),
    Zeroized(Zeroized),
    PublicKey(Box<PublicKeyReply>),
    Signature(Signature),
    TimedSignature(TimedSignature),
    RandomBytes(RandomBytes),
    Ciphertext(Ciphertext),
    Plaintext(Plaintext),
    Digest(DigestValue),
    WrappedKey(WrappedKey),
    SelfTestReport(SelfTestReport),
    AuditAnchorList(AuditAnchorList),
    BackupInfo(BackupInfo),
    BackupPage(BackupPage),
    BackupContent(BackupContent),
}

/// First byte of a reply's body.
const SUCCESS: u8 = 0;
const REFUSED: u8 = 1;

impl Reply {
    /// Appends the body of a reply: the status byte and the content.
    pub fn encode(result: &Result<Self, Refusal>, out: &mut Vec<u8>) {
        let start = out.len();
        let encoded = match result {
            Ok(reply) => {
                out.push(SUCCESS);
                match reply {
                    Self::Done(content) => encode_content(content, out),
                    Self::Hello(content) => encode_content(content, out),
                    Self::ClusterStatus(content) => encode_content(content, out),
                    Self::NewUnseal(content) => encode_content(content, out),
                    Self::PreparedCustodians(content) => encode_content(content, out),
                    Self::CertificationRequest(content) => encode_content(content, out),
                    Self::SessionGrant(content) => encode_content(content, out),
                    Self::SessionPage(content) => encode_content(content, out),
                    Self::UserInfo(content) => encode_content(content, out),
                    Self::UserPage(content) => encode_content(content, out),
                    Self::Challenge(content) => encode_content(content, out),
                    Self::QuorumToken(content) => encode_content(content, out),
                    Self::QuorumTokens(content) => encode_content(content, out),
                    Self::QuorumRules(content) => encode_content(content, out),
                    Self::KeyInfo(content) => encode_content(content, out),
                    Self::KeyPage(content) => encode_content(content, out),
                    Self::KeyShares(content) => encode_content(content, out),
                    Self::SessionKeyList(content) => encode_content(content, out),
                    Self::Zeroized(content) => encode_content(content, out),
                    Self::PublicKey(content) => encode_content(content, out),
                    Self::Signature(content) => encode_content(content, out),
                    Self::TimedSignature(content) => encode_content(content, out),
                    Self::RandomBytes(content) => encode_content(content, out),
                    Self::Ciphertext(content) => encode_content(content, out),
                    Self::Plaintext(content) => encode_content(content, out),
                    Self::Digest(content) => encode_content(content, out),
                    Self::WrappedKey(content) => encode_content(content, out),
                    Self::SelfTestReport(content) => encode_content(content, out),
                    Self::AuditAnchorList(content) => encode_content(content, out),
                    Self::BackupInfo(content) => encode_content(content, out),
                    Self::BackupPage(content) => encode_content(content, out),
                    Self::BackupContent(content) => encode_content(content, out),
                }
            }
            Err(refusal) => {
                out.push(REFUSED);
                encode_content(refusal, out)
            }
        };
        if encoded.is_err() {
            // Can't happen with the types above (no maps, no lengths unknown in advance); a refusal always encodes.
            out.truncate(start);
            out.extend_from_slice(&[REFUSED, RefusalCode::Internal.code(), 0]);
        }
    }
}

fn encode_content<T: Serialize>(content: &T, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
    let taken = core::mem::take(out);
    *out = postcard::to_extend(content, taken)?;
    Ok(())
}

/// Appends the body of a request: the opcode and the operation.
pub fn encode_request<T: Operation>(operation: &T, out: &mut Vec<u8>) -> Result<(), ReplyError> {
    out.push(T::OPCODE);
    encode_content(operation, out).map_err(|_| ReplyError::Undecodable { operation: T::NAME })
}

/// What came back is not a success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The engine said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The body is not a reply to this operation: the engine is broken or speaks another protocol.
    #[error("the engine's reply to {operation} can't be decoded")]
    Undecodable {
        /// What was asked.
        operation: &'static str,
    },
}

/// Reads the body of a reply to an operation of type `T`.
///
/// # Errors
///
/// [`ReplyError::Refused`] with the engine's refusal, or [`ReplyError::Undecodable`].
pub fn decode_reply<T: Operation>(body: &[u8]) -> Result<T::Reply, ReplyError> {
    let undecodable = ReplyError::Undecodable { operation: T::NAME };
    match body.split_first() {
        Some((&SUCCESS, content)) => match postcard::take_from_bytes(content) {
            Ok((reply, [])) => Ok(reply),
            _ => Err(undecodable),
        },
        Some((&REFUSED, content)) => match postcard::take_from_bytes(content) {
            Ok((refusal, [])) => Err(ReplyError::Refused(refusal)),
            _ => Err(undecodable),
        },
        _ => Err(undecodable),
    }
}
