use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::SigningKey;
use zeroize::Zeroizing;

use crate::acme::CertificateKeys;

/// Where the sites' keys are. The product's one is [`EngineKeys`](crate::EngineKeys).
pub trait KeySource: Send + Sync {
    /// Something that signs with the private key of this public key.
    ///
    /// Its `sign` is called on a worker's thread, inside a fiber ([`handshake_fiber::wait`]), and must not block. If it
    /// can't sign, it answers [`rustls::Error::General`]; the client gets the alert `internal_error`.
    /// Whether the key exists may turn out only then.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if no such key can exist there.
    fn signing_key(&self, spki: &SubjectPublicKeyInfoDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError>;

    /// Called once on each worker's thread, inside its `LocalSet`, before anything is signed there.
    fn start_worker(&self) {}

    /// Called on each worker's thread when it ends.
    fn stop_worker(&self) {}

    /// The secret of the session tickets of a period, the same for all who have these keys; none if there is none yet and it is not
    /// to be made. Called on a worker's thread, inside its `LocalSet`, after [`KeySource::start_worker`].
    fn ticket_secret(&self, _period: u64, _make: bool) -> Asked<'_, Option<TicketSecret>> {
        Box::pin(std::future::ready(Err(TicketSecretError::NotOffered)))
    }

    /// Destroys the secret of a period, for all. Called as [`KeySource::ticket_secret`].
    fn forget_ticket_secret(&self, _period: u64) -> Asked<'_, ()> {
        Box::pin(std::future::ready(Err(TicketSecretError::NotOffered)))
    }

    /// Where keys are made for certificates that are ordered; none if they aren't made there.
    fn certificate_keys(&self) -> Option<Arc<dyn CertificateKeys>> {
        None
    }

    /// How those who sign do, as the calling worker sees them; nothing if there is nobody who could be down.
    fn signers(&self) -> Vec<SignerStatus> {
        Vec::new()
    }

    /// What became of the signatures that the calling worker asked for.
    fn counts(&self) -> SigningCounts {
        SigningCounts::default()
    }
}

/// What became of signatures that were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SigningCounts {
    /// Signatures that were asked for.
    pub calls: u64,
    /// Those that nobody made in time.
    pub failures: u64,
    /// Requests sent to another engine, for the first one was lost, or silent, or refused for reasons of its own.
    pub failovers: u64,
    /// Requests sent to a second engine because the answer was late.
    pub hedges: u64,
    /// Hedges whose answer came first.
    pub hedge_wins: u64,
}

impl std::ops::AddAssign for SigningCounts {
    fn add_assign(&mut self, other: Self) {
        let Self { calls, failures, failovers, hedges, hedge_wins } = other;
        self.calls += calls;
        self.failures += failures;
        self.failovers += failovers;
        self.hedges += hedges;
        self.hedge_wins += hedge_wins;
    }
}

/// What whoever holds the keys was asked on a worker's thread.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, TicketSecretError>> + 'a>>;

/// What session tickets are encrypted with; wiped when dropped.
pub type TicketSecret = Zeroizing<[u8; 32]>;

/// There is no secret for session tickets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketSecretError {
    /// Whoever holds the keys has no such secrets.
    #[error("there are no secrets for session tickets")]
    NotOffered,
    /// Nobody could be asked; later, perhaps.
    #[error("{0}")]
    Unreachable(String),
    /// The user may have none.
    #[error("{0}")]
    Refused(String),
}

/// How one of those who sign does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignerStatus {
    /// Its name: an engine's socket.
    pub name: String,
    /// Whether it is asked.
    pub up: bool,
    /// What it does, or why it is not asked, in one line.
    pub state: String,
    /// Requests that it has answered.
    pub answers: u64,
    /// Times that its connection was lost.
    pub losses: u64,
    /// Times that it was taken for frozen, and others were asked.
    pub silences: u64,
    /// Answers whose time was measured.
    pub timed_answers: u64,
    /// How long these took together, from sending the request.
    pub answer_time: Duration,
}

/// The key of a certificate can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No engine has keys of this kind.
    #[error(
        "the certificate's key is {0}; engines have RSA of 2048, 3072 and 4096 bits, P-256, P-384, P-521 and Ed25519"
    )]
    Unsupported(String),
    /// The public key is malformed.
    #[error("the certificate's public key is malformed")]
    Malformed,
    /// The key at hand is not the certificate's.
    #[error("the key at hand does not belong to the certificate")]
    Mismatch,
}
