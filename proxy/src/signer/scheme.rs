use keycore_wire::{KeyAlgorithm, SignatureScheme};

/// The best scheme of this algorithm that the client offers: RSA-PSS goes before PKCS#1 v1.5.
///
/// rustls has already removed what the protocol version does not allow (PKCS#1 v1.5 in TLS 1.3).
pub(super) fn choose(
    algorithm: KeyAlgorithm,
    offered: &[rustls::SignatureScheme],
) -> Option<SignatureScheme> {
    algorithm
        .schemes()
        .iter()
        .copied()
        .find(|scheme| offered.contains(&rustls::SignatureScheme::from(scheme.code())))
}
