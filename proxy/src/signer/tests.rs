use std::time::Duration;

use keycore_client::Identity;
use keycore_wire::{KeyAlgorithm, Secret};
use rustls::SignatureScheme;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::SigningKey;

use super::{EngineKeys, algorithm, scheme};
use crate::keys::KeyError;

fn spki(key: &rcgen::KeyPair) -> SubjectPublicKeyInfoDer<'static> {
    use rcgen::PublicKeyData;
    SubjectPublicKeyInfoDer::from(key.subject_public_key_info())
}

fn keys() -> EngineKeys {
    let identity = Identity::with_password("web".parse().unwrap(), Secret::new(b"not a password".to_vec()));
    let nowhere = std::path::PathBuf::from("/nonexistent/engine-0.sock");
    EngineKeys::new(vec![nowhere.into()], identity, Duration::from_millis(50))
}

#[test]
fn the_algorithm_is_read_from_the_public_key() {
    for (kind, expected) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyAlgorithm::P256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyAlgorithm::P384),
        (&rcgen::PKCS_ECDSA_P521_SHA512, KeyAlgorithm::P521),
        (&rcgen::PKCS_ED25519, KeyAlgorithm::Ed25519),
    ] {
        let key = rcgen::KeyPair::generate_for(kind).unwrap();
        assert_eq!(algorithm::of(&spki(&key)), Ok(expected));
    }
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    assert_eq!(algorithm::of(&spki(&rsa)), Ok(KeyAlgorithm::Rsa2048));
}

#[test]
fn public_keys_that_no_engine_has_are_refused() {
    let nonsense = SubjectPublicKeyInfoDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x00]);
    assert_eq!(algorithm::of(&nonsense), Err(KeyError::Malformed));
    let key = rcgen::KeyPair::generate().unwrap();
    let mut trailing = spki(&key).as_ref().to_vec();
    trailing.push(0);
    assert_eq!(algorithm::of(&SubjectPublicKeyInfoDer::from(trailing)), Err(KeyError::Malformed));
    // secp256k1 (1.3.132.0.10): as long as P-256's, and no engine has it.
    let mut other = vec![0x30, 0x16, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    other.extend([0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a, 0x03, 0x02, 0x00, 0x04]);
    let error = algorithm::of(&SubjectPublicKeyInfoDer::from(other)).unwrap_err();
    assert!(error.to_string().contains("1.3.132.0.10"), "{error}");
}

#[test]
fn pss_goes_before_pkcs1_and_only_what_is_offered_is_chosen() {
    let offered = [SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA384];
    let chosen = scheme::choose(KeyAlgorithm::Rsa2048, &offered);
    assert_eq!(chosen, Some(keycore_wire::SignatureScheme::RsaPssSha384));
    let chosen = scheme::choose(KeyAlgorithm::Rsa2048, &offered[..1]);
    assert_eq!(chosen, Some(keycore_wire::SignatureScheme::RsaPkcs1Sha256));
    assert_eq!(scheme::choose(KeyAlgorithm::P256, &offered), None);
    assert_eq!(scheme::choose(KeyAlgorithm::P384, &[SignatureScheme::ECDSA_NISTP256_SHA256]), None);
}

#[test]
fn without_an_engine_and_outside_of_a_fiber_signing_fails_in_time_and_says_why() {
    let key = keys().key(&spki(&rcgen::KeyPair::generate().unwrap())).unwrap();
    let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    assert_eq!(signer.scheme(), SignatureScheme::ECDSA_NISTP256_SHA256);
    let error = signer.sign(b"message").unwrap_err().to_string();
    assert!(error.contains("no signature"), "{error}");
}

#[test]
fn keys_are_matched_with_certificates_by_their_public_keys() {
    let (one, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let key = keys().key(&spki(&one)).unwrap();
    assert_eq!(key.public_key().unwrap(), spki(&one));
    assert_ne!(key.public_key().unwrap(), spki(&other));
}
