use keycore_wire::KeyAlgorithm;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::keys::KeyError;

/// The algorithm of a public key (RFC 3279, RFC 5480, RFC 8410).
pub(super) fn of(spki: &SubjectPublicKeyInfoDer<'_>) -> Result<KeyAlgorithm, KeyError> {
    let (rest, spki) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::Malformed)?;
    if !rest.is_empty() {
        return Err(KeyError::Malformed);
    }
    let oid = &spki.algorithm.algorithm;
    if *oid == OID_PKCS1_RSAENCRYPTION {
        let Ok(PublicKey::RSA(key)) = spki.parsed() else { return Err(KeyError::Malformed) };
        return match key.key_size() {
            2048 => Ok(KeyAlgorithm::Rsa2048),
            3072 => Ok(KeyAlgorithm::Rsa3072),
            4096 => Ok(KeyAlgorithm::Rsa4096),
            bits => Err(KeyError::Unsupported(format!("RSA of {bits} bits"))),
        };
    }
    if *oid == OID_SIG_ED25519 {
        return Ok(KeyAlgorithm::Ed25519);
    }
    if *oid != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(KeyError::Unsupported(format!("of type {oid}")));
    }
    let curve = spki.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    match curve.ok_or(KeyError::Malformed)? {
        curve if curve == OID_EC_P256 => Ok(KeyAlgorithm::P256),
        curve if curve == OID_NIST_EC_P384 => Ok(KeyAlgorithm::P384),
        curve if curve == OID_NIST_EC_P521 => Ok(KeyAlgorithm::P521),
        curve => Err(KeyError::Unsupported(format!("on the curve {curve}"))),
    }
}
