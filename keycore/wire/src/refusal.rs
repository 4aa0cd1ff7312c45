//! Refusals: why an engine did not do what it was asked.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Who has to change something so that the same request succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The program that sent it: the request is not well formed, or against the protocol.
    Request,
    /// Whoever is logged in, or is not: credentials, session, permission.
    Credentials,
    /// The content: the thing named does not exist, or does not fit.
    Content,
    /// The engine: try another one, or later.
    Engine,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $blame:ident, $retry:literal;)*) => {
        /// Reason of a refusal, with a stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "u8", into = "u8")]
        pub enum RefusalCode {
            $($(#[doc = $doc])* $name,)*
            /// A code that this version does not know, from a newer engine.
            Other(u8),
        }

        impl RefusalCode {
            /// Every code that this version knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code on the wire.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// Who has to change something.
            pub fn blame(self) -> Blame {
                match self {
                    $(Self::$name => Blame::$blame,)*
                    Self::Other(_) => Blame::Engine,
                }
            }

            /// Whether another engine, or the same one a moment later or after a new login, may well answer.
            pub fn is_worth_retrying(self) -> bool {
                match self {
                    $(Self::$name => $retry,)*
                    Self::Other(_) => false,
                }
            }

            /// The name in logs and in JSON: kebab-case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other(_) => "Other",
                }
            }
        }

        impl From<u8> for RefusalCode {
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

codes! {
    /// The body does not decode as the operation that its opcode names, or a value in it is out of bounds.
    Malformed = 1, Request, false;
    /// No such opcode in this version.
    UnknownOperation = 2, Request, false;
    /// The first request was not a hello, or a second hello came.
    HelloExpected = 3, Request, false;
    /// No protocol version in common.
    UnsupportedVersion = 4, Request, false;
    /// More requests in flight on this connection than the hello's reply allows.
    TooManyInFlight = 5, Request, true;

    /// The operation needs a login.
    NotLoggedIn = 32, Credentials, true;
    /// Wrong user name or password; which of the two is not said.
    BadCredentials = 33, Credentials, false;
    /// Too many wrong passwords in a row; an admin has to set a new one. An admin's account takes one more after a pause.
    AccountLocked = 34, Credentials, false;
    /// The session ended: expired, logged out, user deleted or password changed. Log in again.
    SessionEnded = 35, Credentials, true;
    /// The role of this user does not allow the operation.
    PermissionDenied = 36, Credentials, false;
    /// The operation needs the approval of other users.
    QuorumRequired = 37, Credentials, false;
    /// Too many failed logins came from this peer; wait some seconds.
    LoginThrottled = 38, Credentials, false;
    /// The user would have neither password nor peer uid.
    NoCredential = 39, Content, false;
    /// The password is right, and the user has a second factor: ask for a challenge and sign it.
    SecondFactorRequired = 40, Credentials, false;
    /// A signature with the user's registered key does not verify, or the key is of a sort that can't be registered.
    BadSignature = 41, Credentials, false;
    /// Too few of those whose approvals count have a registered key.
    QuorumUnreachable = 42, Content, false;
    /// The operation needs no approval: just do it.
    QuorumNotNeeded = 43, Content, false;
    /// The user has as many sessions at this engine as a user may have. Those that are open go on.
    TooManySessions = 45, Engine, true;

    /// No such key or user, or none that this user may know of.
    NotFound = 64, Content, false;
    /// The name or the key is taken already.
    AlreadyExists = 65, Content, false;
    /// The key's algorithm or usage does not allow the signature scheme or the operation.
    KeyNotSuitable = 66, Content, false;
    /// A TLS-bound key was asked to sign something else than its handshakes.
    NotATlsHandshake = 67, Content, false;
    /// An imported key is not a valid private key of a supported algorithm.
    InvalidKey = 68, Content, false;
    /// The password is too short or too long.
    InvalidPassword = 69, Content, false;
    /// The cluster is not in the state that the operation needs.
    WrongClusterState = 70, Content, false;
    /// A limit of the cluster is reached: users, keys.
    LimitReached = 71, Content, false;
    /// The last admin can't be deleted.
    LastAdmin = 72, Content, false;
    /// The user still owns keys.
    OwnsKeys = 73, Content, false;
    /// The attributes don't go together, or not with the key's algorithm or origin.
    InvalidAttributes = 74, Content, false;
    /// The key's attributes don't let it be changed, or not in this way.
    AttributeFixed = 75, Content, false;
    /// This engine makes no backups: its configuration names no directory or no recipients, or the directory fails.
    BackupsUnavailable = 89, Content, false;
    /// It is no backup, or not as it was written; or not the bytes that are expected next.
    BadBackup = 90, Content, false;
    /// The identity does not open the backup.
    WrongIdentity = 91, Content, false;

    /// The key's algorithm has not this mechanism, or not with these parameters.
    MechanismNotOffered = 80, Content, false;
    /// It is not the signature, or the authentication code, of this data.
    WrongSignature = 81, Content, false;
    /// A ciphertext or a wrapped key is not right; what is wrong with it is not said.
    DecryptionFailed = 82, Content, false;
    /// The input does not fit the mechanism: its length, an initialization vector, a public key.
    WrongInput = 83, Content, false;
    /// The key has encrypted as often as it may; make a new one.
    KeyExhausted = 84, Content, false;

    /// The engine's queues are full.
    Overloaded = 96, Engine, true;
    /// The store can't be read or written.
    StoreUnavailable = 97, Engine, true;
    /// The audit log can't be written, so nothing is done.
    AuditUnavailable = 98, Engine, true;
    /// The engine is shutting down.
    ShuttingDown = 99, Engine, true;
    /// A fault of the engine; its log says more.
    Internal = 100, Engine, true;
    /// This engine is sealed: it does nothing until it is unsealed. Ask another one.
    Sealed = 101, Engine, true;
    /// The share or secret does not unseal this cluster.
    WrongUnsealPart = 102, Content, false;
    /// The engine's unseal secret does not fit the method: it is no key, or there is none.
    UnsealSecretUnfit = 103, Content, false;
    /// A self-test of this engine failed: it does nothing more until it is started anew. Ask another one.
    SelfTestFailed = 104, Engine, true;
    /// A certificate of the cluster can't be read, is not valid now, or lacks what it needs.
    InvalidCertificate = 105, Content, false;
    /// The certificate is not of the cluster's identity key.
    CertificateOfAnotherKey = 106, Content, false;
    /// The certificate does not lead to the trust anchor.
    UntrustedCertificate = 107, Content, false;
}

impl From<RefusalCode> for u8 {
    fn from(code: RefusalCode) -> Self {
        code.code()
    }
}

/// A typed "no". The connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// The reason, for programs.
    pub code: RefusalCode,
    /// What, where and what to do, for people: one line, no secrets, at most [`Refusal::MAX_DETAIL`] bytes.
    pub detail: String,
}

impl Refusal {
    /// Longest detail, in bytes.
    pub const MAX_DETAIL: usize = 256;

    /// A refusal with a detail for people, cut to [`Refusal::MAX_DETAIL`].
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > Self::MAX_DETAIL {
            let end = (0..=Self::MAX_DETAIL).rev().find(|&at| detail.is_char_boundary(at)).unwrap_or(0);
            detail.truncate(end);
        }
        Self { code, detail }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { f.write_str(self.code.name()) } else { f.write_str(&self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_go_both_ways() {
        let mut seen = std::collections::HashSet::new();
        for &code in RefusalCode::ALL {
            assert!(seen.insert(code.code()), "{code:?} shares its code");
            assert_eq!(RefusalCode::from(code.code()), code);
        }
        assert_eq!(RefusalCode::from(255), RefusalCode::Other(255));
    }

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        let refusal = Refusal::new(RefusalCode::Malformed, "é".repeat(200));
        assert_eq!(refusal.detail.len(), Refusal::MAX_DETAIL);
    }
}
