use serde::{Deserialize, Serialize};

use crate::algorithm::SignatureScheme;
use crate::ids::SpkiSha256;

/// Longest message of a handshake, in bytes: TLS 1.3 has 98 + 48, TLS 1.2 with P-521 has 64 + 4 + 133.
pub const MAX_TLS_MESSAGE: usize = 512;

/// Longest site name, in bytes: that of a DNS name.
pub const MAX_SITE: usize = 253;

/// Signs a TLS handshake with a key of the user: a server's with a key of usage `tls-server`, a client's with one of usage
/// `tls-client`.
///
/// A server's message must be the content of a TLS 1.3 server CertificateVerify (RFC 8446, section 4.4.3) or of a TLS 1.2
/// ServerKeyExchange with ECDHE parameters (RFC 8422, section 5.4) from a server that also speaks TLS 1.3 (its
/// random ends in the downgrade sentinel of RFC 8446, section 4.1.3); a client's that of a TLS 1.3 client
/// CertificateVerify. Anything else is refused with `NotATlsHandshake`: what a TLS 1.2 client signs is all that was said before,
/// which can't be told from other things.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct TlsSign<'a> {
    /// The key, by its certificate's public key.
    pub key: SpkiSha256,
    /// How.
    pub scheme: SignatureScheme,
    /// Which site the client asked for, as far as the proxy knows; for the audit log. At most [`MAX_SITE`] bytes.
    pub site: &'a str,
    /// The whole content to be signed; at most [`MAX_TLS_MESSAGE`] bytes.
    #[serde(borrow, with = "serde_bytes")]
    pub message: &'a [u8],
}

/// The same, for who wants to know where its time goes. Encoded as [`TlsSign`], and the same to permissions, approvals and the audit log.
/// Engines of the versions before refuse it as an unknown operation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct TlsSignTimed<'a>(#[serde(borrow)] pub TlsSign<'a>);

/// A signature, and what it took. A microsecond or two are not told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedSignature {
    /// The signature, in the encoding that its scheme has in TLS.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// How long the engine had the request, from reading it to answering, and was not at it: others were, or a worker was waited for. In
    /// microseconds.
    pub queued_us: u32,
    /// How long it was at it. In microseconds.
    pub computing_us: u32,
}
