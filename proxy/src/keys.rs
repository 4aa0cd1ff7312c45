use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::SigningKey;

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

    /// How those who sign do, as the calling worker sees them; nothing if there is nobody who could be down.
    fn signers(&self) -> Vec<SignerStatus> {
        Vec::new()
    }
}

/// How one of those who sign does.
#[derive(Debug, Clone, PartialEq, Eq)]
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
