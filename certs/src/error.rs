use keycore_wire::{KeyAlgorithm, KeyLabel};
use time::OffsetDateTime;

/// Why no certificate or request was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused, or could not be reached.
    #[error(transparent)]
    Engine(#[from] keycore_client::Error),
    /// The engine's answer about a key does not hold together.
    #[error("the engine's public key of {label} is not a valid {algorithm} key")]
    InvalidPublicKey {
        /// Which key.
        label: KeyLabel,
        /// What it is said to be.
        algorithm: KeyAlgorithm,
    },
    /// Certificates are not made with keys of this algorithm.
    #[error(
        "key {label} is of type {algorithm}; certificates are made with RSA, P-256, P-384, P-521 and Ed25519 keys"
    )]
    NotForCertificates {
        /// Which key.
        label: KeyLabel,
        /// What it is.
        algorithm: KeyAlgorithm,
    },
    /// The key signs TLS handshakes and its own request, never a certificate.
    #[error(
        "key {label} is bound to TLS (usage tls-server or tls-client): it signs handshakes and its own certificate request, \
         but no certificate; let a CA issue its certificate, or make a key with usage sign"
    )]
    TlsBound {
        /// Which key.
        label: KeyLabel,
    },
    /// A name or a profile's value is out of bounds.
    #[error(transparent)]
    Name(#[from] crate::InvalidCertificateName),
    /// The file holds no PEM block of the kind that is needed.
    #[error("no valid PEM block `{expected}` found")]
    NoPem {
        /// The label of the block.
        expected: &'static str,
    },
    /// The DER inside of the PEM block can't be read.
    #[error("the {what} can't be read: {reason}")]
    Unreadable {
        /// Certificate or request.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The certificate is another key's.
    #[error("the certificate does not belong to key {label}: their public keys differ")]
    KeyMismatch {
        /// Which key.
        label: KeyLabel,
    },
    /// The certificate can't issue others.
    #[error("the issuer's certificate can't sign certificates: {reason}")]
    NotACa {
        /// What is missing or against it.
        reason: &'static str,
    },
    /// The certificate would be valid for longer than its issuer's.
    #[error("the issuer's certificate ends on {}, before the new one would; ask for fewer days", .issuer_ends.date())]
    OutlivesIssuer {
        /// When the issuer's certificate ends.
        issuer_ends: OffsetDateTime,
    },
    /// The issuer's path length leaves no room for a CA below it, or not for one of this path length.
    #[error("the issuer's path length of {issuer} allows no CA below it with the path length asked for")]
    PathLength {
        /// What the issuer's certificate says.
        issuer: u32,
    },
    /// The request is not signed by the key that it names.
    #[error(
        "the request's signature is not its own key's: it was changed, or its maker does not hold the key"
    )]
    RequestSignature,
    /// The request asks for something that no profile gives.
    #[error("the request can't be granted: {reason}")]
    RequestRefused {
        /// What.
        reason: &'static str,
    },
    /// An algorithm that is not taken: SHA-1, DSA, RSA below 2048 bits, curves other than NIST's, …
    #[error("{what} is of an algorithm or size that is not supported")]
    UnsupportedAlgorithm {
        /// Key or signature.
        what: &'static str,
    },
    /// What came out does not verify with the issuer's public key: engine or encoder are broken.
    #[error("the new certificate does not verify with its issuer's certificate; nothing was written")]
    SelfCheck,
    /// No key was made.
    #[error("the system gives no random numbers for a key")]
    NoKey,
    /// The encoder failed.
    #[error("the certificate can't be encoded: {0}")]
    Encoding(rcgen::Error),
}
