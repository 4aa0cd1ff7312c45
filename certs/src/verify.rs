//! Signatures on certificates and requests, checked before anything is handed out.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::Error;

/// Checks `signature` of `message` with a public key. `bad` makes the error if they don't match.
///
/// # Errors
///
/// What `bad` makes, or [`Error::UnsupportedAlgorithm`]: SHA-1, RSA below 2048 bits and RSASSA-PSS are not taken.
pub(crate) fn verify(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
    bad: impl FnOnce() -> Error,
) -> Result<(), Error> {
    let Some(verification) = verification(key, algorithm) else {
        return Err(Error::UnsupportedAlgorithm { what: "the signature" });
    };
    UnparsedPublicKey::new(verification, key.subject_public_key.data.as_ref())
        .verify(message, signature)
        .map_err(|_| bad())
}

fn verification(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    const RSA: &str = "1.2.840.113549.1.1.1";
    const EC: &str = "1.2.840.10045.2.1";
    const ED25519: &str = "1.3.101.112";
    const P256: &str = "1.2.840.10045.3.1.7";
    const P384: &str = "1.3.132.0.34";
    const P521: &str = "1.3.132.0.35";

    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let curve = curve.map(|curve| curve.to_id_string()).unwrap_or_default();
    let kind = key.algorithm.algorithm.to_id_string();
    Some(match (algorithm.algorithm.to_id_string().as_str(), kind.as_str(), curve.as_str()) {
        ("1.2.840.113549.1.1.11", RSA, _) => &signature::RSA_PKCS1_2048_8192_SHA256,
        ("1.2.840.113549.1.1.12", RSA, _) => &signature::RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", RSA, _) => &signature::RSA_PKCS1_2048_8192_SHA512,
        ("1.2.840.10045.4.3.2", EC, P256) => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", EC, P256) => &signature::ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", EC, P256) => &signature::ECDSA_P256_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", EC, P384) => &signature::ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", EC, P384) => &signature::ECDSA_P384_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", EC, P384) => &signature::ECDSA_P384_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", EC, P521) => &signature::ECDSA_P521_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", EC, P521) => &signature::ECDSA_P521_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", EC, P521) => &signature::ECDSA_P521_SHA512_ASN1,
        (ED25519, ED25519, _) => &signature::ED25519,
        _ => return None,
    })
}
