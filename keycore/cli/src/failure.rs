//! Why a command failed: exit code, sentence, and what to do.

use std::io;
use std::path::PathBuf;

use keycore_client::{Error as ClientError, TlsError};
use keycore_wire::{Blame, QuorumToken, Refusal, RefusalCode};
use serde_json::{Value, json};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The engines, or the way to them.
    #[error(transparent)]
    Engine(#[from] ClientError),
    /// Nobody said where the engines are, and they are not in the usual place.
    #[error("no engine's socket in {}{}", .directory.display(), .source.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    NoSocket { directory: PathBuf, source: Option<io::Error> },
    /// Engines on other machines can't be spoken to as the files for TLS are.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No certificate or request was made.
    #[error(transparent)]
    Certificate(hsm_certs::Error),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] keycore_audit::VerifyError),
    /// The arguments don't go together, as far as clap can't know.
    #[error("{0}")]
    Usage(String),
    /// There is nobody to log in as, or no password to be had.
    #[error("{what}")]
    NotLoggedIn { what: String, advice: String },
    /// A file or directory with secrets is open to others.
    #[error("{} {problem}", .path.display())]
    Exposed { path: PathBuf, problem: String, advice: String },
    /// A file's content is not what it should be.
    #[error("{}: {problem}", .path.display())]
    Content { path: PathBuf, problem: String, advice: Option<String> },
    /// A file can't be read.
    #[error("can't read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file can't be written.
    #[error("can't write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The file to be written is there already.
    #[error("{} exists already and was left alone", .path.display())]
    Exists { path: PathBuf },
    /// The file for a private key is there already.
    #[error("{} exists already, and was left alone", .path.display())]
    KeyExists { path: PathBuf },
    /// A question was answered with no, or could not be asked.
    #[error("{what}: nothing was done")]
    Declined { what: &'static str, advice: Option<&'static str> },
    /// The engine may have done what can't be asked for again.
    #[error("{error}")]
    Unanswered { error: ClientError, advice: &'static str },
    /// Engines stopped because a self-test failed.
    #[error("a self-test failed: {}", .0.join("; "))]
    SelfTest(Vec<String>),
    /// Not done but proposed: others have to approve it.
    #[error("proposed as token {}", .0.id)]
    Proposed(Box<QuorumToken>),
    /// The system's random generator failed.
    #[error("the system gives no random numbers")]
    NoRandom,
}

impl Failure {
    /// Exit code: refused for the content, or declined.
    pub(crate) const REFUSED: u8 = 1;
    /// Exit code: wrong arguments (clap's own as well).
    pub(crate) const USAGE: u8 = 2;
    /// Exit code: the content of a file is bad (EX_DATAERR).
    pub(crate) const DATA: u8 = 65;
    /// Exit code: a file can't be read (EX_NOINPUT).
    pub(crate) const READ: u8 = 66;
    /// Exit code: no engine answers (EX_UNAVAILABLE).
    pub(crate) const NO_ENGINE: u8 = 69;
    /// Exit code: a fault of hsm or of the engine (EX_SOFTWARE).
    pub(crate) const FAULT: u8 = 70;
    /// Exit code: a file can't be written (EX_CANTCREAT).
    pub(crate) const WRITE: u8 = 73;
    /// Exit code: try again later, after a look (EX_TEMPFAIL).
    pub(crate) const LATER: u8 = 75;
    /// Exit code: not logged in, or not permitted (EX_NOPERM).
    pub(crate) const PERMISSION: u8 = 77;

    /// The code that the process exits with: the table in `docs/cli.md`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(error) | Self::Unanswered { error, .. } => engine_exit_code(error),
            Self::NoSocket { .. } => Self::NO_ENGINE,
            Self::Audit(_) | Self::Certificate(_) | Self::Content { .. } => Self::DATA,
            Self::Usage(_) | Self::Tls(TlsError::Incomplete { .. }) => Self::USAGE,
            Self::Tls(TlsError::TooOpen { .. }) => Self::PERMISSION,
            Self::Tls(TlsError::Unreadable { .. }) => Self::READ,
            Self::Tls(_) => Self::DATA,
            Self::NotLoggedIn { .. } | Self::Exposed { .. } => Self::PERMISSION,
            Self::Read { .. } => Self::READ,
            Self::Write { .. } | Self::Exists { .. } | Self::KeyExists { .. } => Self::WRITE,
            Self::Declined { .. } | Self::Proposed(_) => Self::REFUSED,
            Self::NoRandom | Self::SelfTest(_) => Self::FAULT,
        }
    }

    /// For people: what and where, then what to do.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("hsm: {self}\n");
        if let Some(advice) = self.advice() {
            text.push_str(&format!("     {advice}\n"));
        }
        text
    }

    /// For programs: `error_code` is the exit code; a refusal of the engine comes with its own code and name.
    pub(crate) fn json(&self) -> Value {
        let mut answer = json!({ "error_code": self.exit_code(), "data": self.to_string() });
        if let Some(advice) = self.advice() {
            answer["advice"] = advice.into();
        }
        if let Some(Refusal { code, .. }) = self.refusal() {
            answer["refusal"] = json!({ "code": code.code(), "name": code.name() });
        }
        answer
    }

    /// What the engine said, if it was the engine.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Engine(ClientError::Refused(refusal) | ClientError::Login(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// Whether asking the engine for anything more would only take long.
    pub(crate) fn is_lost_connection(&self) -> bool {
        matches!(
            self,
            Self::Engine(
                ClientError::NoEngine { .. }
                    | ClientError::DeadlineExceeded
                    | ClientError::OutcomeUnknown { .. }
            ) | Self::Unanswered { .. }
        )
    }

    /// The same where nothing can be replaced.
    pub(crate) fn never_replaced(self) -> Self {
        match self {
            Self::Exists { path } => Self::KeyExists { path },
            other => other,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Engine(error) => engine_advice(error).map(str::to_owned),
            Self::Unanswered { advice, .. } => Some((*advice).to_owned()),
            Self::NotLoggedIn { advice, .. } | Self::Exposed { advice, .. } => Some(advice.clone()),
            Self::Content { advice, .. } => advice.clone(),
            Self::Tls(TlsError::Incomplete { .. }) => Some(
                "name all three: --tls-ca, --tls-certificate and --tls-key, or $HSM_TLS_CA, $HSM_TLS_CERTIFICATE and $HSM_TLS_KEY"
                    .to_owned(),
            ),
            Self::NoSocket { .. } => Some(
                "start hsm-engine, or say where its sockets are: --engine SOCKET, or $HSM_ENGINES".to_owned(),
            ),
            Self::Audit(keycore_audit::VerifyError::Io { .. } | keycore_audit::VerifyError::Empty(_)) => Some(
                "the log is in audit/ of the engine's state-dir, which its user and root may read: name it with --dir"
                    .to_owned(),
            ),
            Self::Audit(keycore_audit::VerifyError::Broken { .. }) => Some(
                "keep the files as they are; docs/audit-log.md says what this can mean".to_owned(),
            ),
            Self::SelfTest(_) => Some(
                "such an engine does nothing more: start it anew, and replace the machine if it fails again".to_owned(),
            ),
            Self::Exists { .. } => Some("give --force to replace it".to_owned()),
            Self::KeyExists { .. } => Some("no private key is ever replaced, nor a share of one: name another file".to_owned()),
            Self::Declined { advice, .. } => advice.map(str::to_owned),
            Self::Certificate(hsm_certs::Error::TlsBound { .. }) => Some(
                "see hsm cert csr and hsm cert issue, or hsm key generate-asymmetric-pair --usage sign"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<hsm_certs::Error> for Failure {
    fn from(error: hsm_certs::Error) -> Self {
        match error {
            hsm_certs::Error::Engine(error) => Self::Engine(error),
            error => Self::Certificate(error),
        }
    }
}

fn engine_exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Refused(refusal) | ClientError::Login(refusal) => match refusal.code.blame() {
            Blame::Content => Failure::REFUSED,
            Blame::Credentials => Failure::PERMISSION,
            Blame::Engine if refusal.code.is_worth_retrying() && refusal.code != RefusalCode::Internal => {
                Failure::LATER
            }
            // A value out of bounds, which hsm passed on as it was given.
            Blame::Request if refusal.code == RefusalCode::Malformed => Failure::DATA,
            Blame::Engine | Blame::Request => Failure::FAULT,
        },
        ClientError::Identity(_) => Failure::PERMISSION,
        ClientError::NoEngine { .. } => Failure::NO_ENGINE,
        ClientError::DeadlineExceeded | ClientError::OutcomeUnknown { .. } => Failure::LATER,
        ClientError::TooLarge { .. } => Failure::DATA,
        _ => Failure::FAULT,
    }
}

fn engine_advice(error: &ClientError) -> Option<&'static str> {
    let refusal = match error {
        ClientError::Refused(refusal) | ClientError::Login(refusal) => refusal,
        ClientError::NoEngine { .. } => {
            return Some(
                "is hsm-engine running, and may you open its socket? Say where with --engine SOCKET",
            );
        }
        ClientError::DeadlineExceeded => {
            return Some("the engine may be overloaded: try again, or raise --timeout");
        }
        _ => return None,
    };
    Some(match refusal.code {
        RefusalCode::BadCredentials => "check user name and password; too many wrong ones lock the account",
        RefusalCode::AccountLocked => {
            "an admin unlocks it with a new password: hsm user change-password NAME; \
             an admin's own opens for one more attempt after a pause"
        }
        RefusalCode::QuorumRequired => {
            "hsm login, then propose it: hsm quorum token-sign generate -- COMMAND; run it again once it is approved"
        }
        RefusalCode::SecondFactorRequired => {
            "hsm login --user NAME --mfa-key FILE, then the command without a password"
        }
        RefusalCode::LoginThrottled => "too many failed logins by this user of the machine: wait a minute",
        RefusalCode::TooManySessions => {
            "see hsm session list, end one with hsm session end, or raise max-user-sessions"
        }
        RefusalCode::QuorumUnreachable => {
            "approvers register keys with hsm user change-quorum token-sign register; see hsm quorum token-sign list-quorum-values"
        }
        RefusalCode::NotLoggedIn | RefusalCode::SessionEnded => "log in again: hsm login --user NAME",
        RefusalCode::PermissionDenied => {
            "admins manage users, crypto users have keys: is this the right --user? See hsm user list"
        }
        RefusalCode::NotFound => {
            "only your own keys and sessions are found: see hsm key list and hsm session list, and hsm user list for users"
        }
        RefusalCode::WrongClusterState => {
            "hsm cluster info shows its state: hsm cluster init and activate come first, in this order, once each"
        }
        RefusalCode::Sealed => "hsm cluster info says what it waits for; then hsm cluster unseal",
        RefusalCode::UnsealSecretUnfit => {
            "see unseal-file in the engine's configuration, or choose another method: hsm cluster init --help"
        }
        RefusalCode::InvalidAttributes | RefusalCode::AttributeFixed => {
            "docs/keys.md has the table of what goes together, and of what may change"
        }
        RefusalCode::NotATlsHandshake => {
            "a key of usage tls-server or tls-client signs TLS handshakes of its end and its own CSR; make one with --usage sign for this"
        }
        RefusalCode::BackupsUnavailable => "see [backup] in the engine's configuration, and its directory",
        RefusalCode::OwnsKeys => "log in as that user and delete them: hsm key list, hsm key delete",
        RefusalCode::LastAdmin => "make another admin first: hsm user create NAME --role admin",
        RefusalCode::Internal => "the engine's own log says more",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: RefusalCode) -> Failure {
        Failure::Engine(ClientError::Refused(Refusal::new(code, "why")))
    }

    #[test]
    fn exit_codes_say_who_has_to_act() {
        for (failure, code) in [
            (refused(RefusalCode::NotFound), 1),
            (refused(RefusalCode::PermissionDenied), 77),
            (refused(RefusalCode::Overloaded), 75),
            (refused(RefusalCode::Internal), 70),
            (refused(RefusalCode::Malformed), 65),
            (refused(RefusalCode::UnknownOperation), 70),
            (Failure::Engine(ClientError::NoEngine { engines: Vec::new() }), 69),
            (Failure::Usage(String::new()), 2),
        ] {
            assert_eq!(failure.exit_code(), code, "{failure}");
        }
    }

    #[test]
    fn programs_get_the_refusal_and_people_the_advice() {
        let failure = refused(RefusalCode::NotFound);
        let json = failure.json();
        assert_eq!((&json["error_code"], &json["refusal"]["code"]), (&json!(1), &json!(64)));
        assert_eq!(json["refusal"]["name"], "NotFound");
        assert!(failure.text().starts_with("hsm: the engine refused: why\n     only your own keys"));
    }
}
