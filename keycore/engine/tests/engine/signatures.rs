//! Every algorithm and scheme, verified by other implementations.

use aws_lc_rs::signature::{
    ECDSA_P256K1_SHA256_ASN1, ECDSA_P521_SHA512_ASN1, ED25519, ML_DSA_44, ML_DSA_65, ML_DSA_87,
    UnparsedPublicKey,
};
use keycore_engine::Leisure;
use keycore_wire::SignatureScheme as Scheme;
use keycore_wire::{
    Attributes, KeyAlgorithm, KeySelector, PublicKey, RefusalCode, Sign, TlsSign, TlsSignTimed,
};
use p256::ecdsa::signature::Verifier;
use p256::pkcs8::DecodePublicKey;
use rsa::{RsaPublicKey, pkcs1v15, pss};
use sha2::{Sha256, Sha384, Sha512};

use crate::harness::{World, handshake};

fn verify(scheme: Scheme, spki: &[u8], message: &[u8], signature: &[u8]) {
    let rsa = || RsaPublicKey::from_public_key_der(spki).unwrap();
    let v15 = || pkcs1v15::Signature::try_from(signature).unwrap();
    let pss = || pss::Signature::try_from(signature).unwrap();
    // Other public keys than those of RSA, P-256 and P-384 end their SubjectPublicKeyInfo.
    let tail = |length: usize| spki[spki.len() - length..].to_vec();
    match scheme {
        Scheme::RsaPkcs1Sha256 => {
            pkcs1v15::VerifyingKey::<Sha256>::new(rsa()).verify(message, &v15()).unwrap();
        }
        Scheme::RsaPkcs1Sha384 => {
            pkcs1v15::VerifyingKey::<Sha384>::new(rsa()).verify(message, &v15()).unwrap();
        }
        Scheme::RsaPkcs1Sha512 => {
            pkcs1v15::VerifyingKey::<Sha512>::new(rsa()).verify(message, &v15()).unwrap();
        }
        Scheme::RsaPssSha256 => pss::VerifyingKey::<Sha256>::new(rsa()).verify(message, &pss()).unwrap(),
        Scheme::RsaPssSha384 => pss::VerifyingKey::<Sha384>::new(rsa()).verify(message, &pss()).unwrap(),
        Scheme::RsaPssSha512 => pss::VerifyingKey::<Sha512>::new(rsa()).verify(message, &pss()).unwrap(),
        Scheme::EcdsaP256Sha256 => {
            let signature = p256::ecdsa::DerSignature::try_from(signature).unwrap();
            p256::ecdsa::VerifyingKey::from_public_key_der(spki)
                .unwrap()
                .verify(message, &signature)
                .unwrap();
        }
        Scheme::EcdsaP384Sha384 => {
            let signature = p384::ecdsa::DerSignature::try_from(signature).unwrap();
            p384::ecdsa::VerifyingKey::from_public_key_der(spki)
                .unwrap()
                .verify(message, &signature)
                .unwrap();
        }
        Scheme::EcdsaP521Sha512 => {
            UnparsedPublicKey::new(&ECDSA_P521_SHA512_ASN1, tail(133)).verify(message, signature).unwrap();
        }
        Scheme::Ed25519 => UnparsedPublicKey::new(&ED25519, tail(32)).verify(message, signature).unwrap(),
        Scheme::EcdsaSecp256k1Sha256 => {
            UnparsedPublicKey::new(&ECDSA_P256K1_SHA256_ASN1, tail(65)).verify(message, signature).unwrap();
        }
        Scheme::MlDsa44 => UnparsedPublicKey::new(&ML_DSA_44, tail(1312)).verify(message, signature).unwrap(),
        Scheme::MlDsa65 => UnparsedPublicKey::new(&ML_DSA_65, tail(1952)).verify(message, signature).unwrap(),
        Scheme::MlDsa87 => UnparsedPublicKey::new(&ML_DSA_87, tail(2592)).verify(message, signature).unwrap(),
    }
}

#[test]
fn every_scheme_of_every_algorithm_verifies() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let spki = |web: &mut crate::harness::Client, id| {
        web.call(&PublicKey { key: KeySelector::Id(id) }).unwrap().spki
    };
    for algorithm in KeyAlgorithm::PAIRS {
        let sign = web.generate(algorithm, Attributes::SIGN, algorithm.name());
        assert_eq!(sign.algorithm, algorithm);
        let sign_spki = spki(&mut web, sign.id);
        for &scheme in algorithm.schemes() {
            let message = b"anything at all";
            let signature = web.call(&Sign { key: sign.id, scheme, message }).unwrap();
            verify(scheme, &sign_spki, message, &signature.bytes);
        }
    }
    for algorithm in KeyAlgorithm::TLS {
        let tls = web.generate(algorithm, Attributes::TLS_SERVER, &format!("tls-{algorithm}"));
        let tls_spki = spki(&mut web, tls.id);
        for &scheme in algorithm.schemes() {
            if !scheme.is_pkcs1() {
                let message = handshake();
                let request =
                    TlsSign { key: tls.spki_sha256.unwrap(), scheme, site: "www", message: &message };
                let signature = web.call(&request).unwrap();
                verify(scheme, &tls_spki, &message, &signature.bytes);
            }
        }
    }
}

#[test]
fn cheap_signatures_need_no_worker_once_the_key_is_cached() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let message = handshake();
    for (algorithm, cheap, cheap_when_idle) in [
        (KeyAlgorithm::P256, true, true),
        (KeyAlgorithm::Ed25519, true, true),
        (KeyAlgorithm::P521, false, true),
        (KeyAlgorithm::Rsa2048, false, true),
        (KeyAlgorithm::Rsa3072, false, false),
    ] {
        web.leisure = Leisure::Busy;
        let key = web.generate(algorithm, Attributes::TLS_SERVER, algorithm.name()).spki_sha256.unwrap();
        let request = TlsSign { key, scheme: algorithm.schemes()[0], site: "www", message: &message };
        let (first, inline) = web.call_where(&request);
        assert_eq!((first.is_ok(), inline), (true, false));
        let (second, inline) = web.call_where(&request);
        assert_eq!((second.is_ok(), inline), (true, cheap));
        web.leisure = Leisure::Idle;
        let (third, inline) = web.call_where(&request);
        assert_eq!((third.is_ok(), inline), (true, cheap_when_idle), "{algorithm}");
    }
}

#[test]
fn long_messages_are_hashed_by_a_worker() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k").id;
    let message = vec![1; 4097];
    let mut signs = |message| {
        let (signed, inline) = web.call_where(&Sign { key, scheme: Scheme::EcdsaP256Sha256, message });
        signed.unwrap();
        inline
    };
    assert!(!signs(b"the first one loads the key"));
    assert_eq!((signs(&message[1..]), signs(&message)), (true, false));
}

#[test]
fn a_scheme_of_another_algorithm_is_refused() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let p256 = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "p256").id;
    for scheme in Scheme::ALL.into_iter().filter(|scheme| *scheme != Scheme::EcdsaP256Sha256) {
        assert_eq!(web.refused(&Sign { key: p256, scheme, message: b"m" }), RefusalCode::KeyNotSuitable);
    }
}

#[test]
fn messages_are_bounded() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, "k");
    let message = vec![1; 64 * 1024 + 1];
    let sign = |message| Sign { key: key.id, scheme: Scheme::Ed25519, message };
    web.call(&sign(&message[1..])).unwrap();
    assert_eq!(web.refused(&sign(&message)), RefusalCode::Malformed);
    let site = "w".repeat(254);
    let tls =
        |site, message| TlsSign { key: key.spki_sha256.unwrap(), scheme: Scheme::Ed25519, site, message };
    assert_eq!(web.refused(&tls("www", &message[..513])), RefusalCode::Malformed);
    assert_eq!(web.refused(&tls(&site, &handshake())), RefusalCode::Malformed);
}

/// Whoever reads the log, or looks for what a site's key signed, need not know that somebody measured.
#[test]
fn a_timed_signature_is_a_handshakes_like_any_other() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let tls = web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    let plain = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "plain");
    let message = handshake();
    let sign = |key: &keycore_wire::KeyInfo, message| TlsSign {
        key: key.spki_sha256.unwrap(),
        scheme: Scheme::EcdsaP256Sha256,
        site: "www.example.org",
        message,
    };
    let spki = web.call(&PublicKey { key: KeySelector::Id(tls.id) }).unwrap().spki;
    let timed = web.call(&TlsSignTimed(sign(&tls, &message))).unwrap();
    verify(Scheme::EcdsaP256Sha256, &spki, &message, &timed.bytes);
    assert_eq!((timed.queued_us, timed.computing_us), (0, 0), "the engine has no clock");
    let (timed, inline) = web.call_where(&TlsSignTimed(sign(&tls, &message)));
    assert!(inline && timed.is_ok());
    web.call(&sign(&tls, &message)).unwrap();
    for refused in [sign(&tls, b"anything else"), sign(&plain, &message)] {
        assert_eq!(web.refused(&TlsSignTimed(refused)), web.refused(&refused));
    }
    let told = replica.audit.map(&replica.engine, |entry| {
        format!("{} {:#x} {:?} {:?}", entry.operation, entry.opcode, entry.outcome, entry.subject)
    });
    let signed: Vec<_> = told.iter().filter(|line| line.starts_with("TlsSign")).collect();
    assert_eq!(signed.len(), 7);
    assert!(signed[..3].iter().all(|line| *line == signed[0]), "{signed:?}");
    assert_eq!((signed[3], signed[5]), (signed[4], signed[6]));
}
