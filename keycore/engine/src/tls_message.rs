//! What a TLS-bound key may sign: the content of its end's handshake signature, recognised by all of its bytes.
//!
//! The signer gets the whole message, not its hash, so it can tell a handshake from anything else: a certificate, a
//! token, the other end's signature. Whoever steals a proxy can make handshakes while he is there, and nothing more.

use aws_lc_rs::agreement::{Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, ParsedPublicKey, UnparsedPublicKey};
use keycore_wire::SignatureScheme;

/// What the 64 spaces and the zero byte enclose in a TLS 1.3 server's CertificateVerify (RFC 8446, section 4.4.3).
const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify";

/// The same in a client's.
const CLIENT_CONTEXT: &[u8] = b"TLS 1.3, client CertificateVerify";

/// Bytes of spaces before it.
const PADDING: usize = 64;

/// How the random of a TLS 1.2 handshake ends if the server also speaks TLS 1.3 (RFC 8446, section 4.1.3).
const DOWNGRADE_SENTINEL: &[u8] = b"DOWNGRD\x01";

/// Bytes of a client's or a server's random.
const RANDOM: usize = 32;

/// ECCurveType named_curve (RFC 8422, section 5.4).
const NAMED_CURVE: u8 = 3;

/// First byte of an uncompressed point (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// Whose handshakes a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsEnd {
    Server,
    /// In TLS 1.3 only: what a client of TLS 1.2 signs is all handshake messages until then (RFC 5246, section 7.4.8), most bytes of
    /// which the other end may choose.
    Client,
}

/// The handshake that a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMessage {
    /// TLS 1.3 CertificateVerify.
    Tls13CertificateVerify,
    /// TLS 1.2 ServerKeyExchange with ECDHE parameters.
    Tls12ServerKeyExchange,
}

/// Why a message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTls {
    #[error("neither a TLS 1.3 server CertificateVerify nor a TLS 1.2 ServerKeyExchange")]
    Unrecognised,
    #[error("no TLS 1.3 client CertificateVerify")]
    NotAClients,
    #[error("the transcript hash of a TLS 1.3 CertificateVerify has 32 or 48 bytes")]
    TranscriptHash,
    #[error("TLS 1.3 does not sign handshakes with RSASSA-PKCS1-v1_5")]
    Pkcs1InTls13,
}

impl TlsMessage {
    /// Recognises `message` of this end, to be signed with `scheme`.
    pub(crate) fn parse(end: TlsEnd, message: &[u8], scheme: SignatureScheme) -> Result<Self, NotTls> {
        let context = match end {
            TlsEnd::Server => CONTEXT,
            TlsEnd::Client => CLIENT_CONTEXT,
        };
        if let Some(rest) = message.strip_prefix(&[b' '; PADDING])
            && let Some(hash) = rest.strip_prefix(context).and_then(|rest| rest.strip_prefix(&[0]))
        {
            return if !matches!(hash.len(), 32 | 48) {
                Err(NotTls::TranscriptHash)
            } else if scheme.is_pkcs1() {
                Err(NotTls::Pkcs1InTls13)
            } else {
                Ok(Self::Tls13CertificateVerify)
            };
        }
        match end {
            TlsEnd::Server if is_server_key_exchange(message) => Ok(Self::Tls12ServerKeyExchange),
            TlsEnd::Server => Err(NotTls::Unrecognised),
            TlsEnd::Client => Err(NotTls::NotAClients),
        }
    }
}

/// `client_random ‖ server_random ‖ ServerECDHParams` (RFC 8422, section 5.4).
///
/// The randoms and the point are whatever the proxy says; the length and the sentinel between them are not. A point of a
/// NIST curve has to be one: half of its bytes follow from the others, so nothing of the forger's fits behind the
/// sentinel. X25519 takes any 32 bytes, too few to matter.
fn is_server_key_exchange(message: &[u8]) -> bool {
    let Some((randoms, parameters)) = message.split_at_checked(2 * RANDOM) else { return false };
    let &[NAMED_CURVE, group_high, group_low, length, ref point @ ..] = parameters else { return false };
    if !randoms.ends_with(DOWNGRADE_SENTINEL) || usize::from(length) != point.len() {
        return false;
    }
    match u16::from_be_bytes([group_high, group_low]) {
        23 => is_uncompressed_point(point, 32, &ECDH_P256),
        24 => is_uncompressed_point(point, 48, &ECDH_P384),
        25 => is_uncompressed_point(point, 66, &ECDH_P521),
        29 => point.len() == 32,
        _ => false,
    }
}

fn is_uncompressed_point(point: &[u8], coordinate: usize, curve: &'static Algorithm) -> bool {
    point.len() == 1 + 2 * coordinate
        && point[0] == UNCOMPRESSED
        && ParsedPublicKey::try_from(UnparsedPublicKey::new(curve, point)).is_ok()
}

#[cfg(test)]
mod tests;
