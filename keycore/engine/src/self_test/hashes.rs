//! Digests, message authentication codes and the audit log's chain.

use aws_lc_rs::error::Unspecified;
use keycore_audit::Head;
use keycore_wire::{Hash, KeyAlgorithm, SignMechanism};

use super::known_answer::{KnownAnswer, hex};
use super::{P, material};
use crate::mechanism;

pub(super) const HASHES: &[KnownAnswer] = &[
    KnownAnswer {
        name: "SHA-1",
        source: "FIPS 180-4, \"abc\"",
        expected: const { &hex::<20>("a9993e364706816aba3e25717850c26c9cd0d89d") },
        compute: || Ok(mechanism::digest(Hash::Sha1, b"abc").as_ref().to_vec()),
    },
    KnownAnswer {
        name: "SHA-224",
        source: "FIPS 180-4, \"abc\"",
        expected: const { &hex::<28>("23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7") },
        compute: || Ok(mechanism::digest(Hash::Sha224, b"abc").as_ref().to_vec()),
    },
    KnownAnswer {
        name: "SHA-256",
        source: "FIPS 180-4, \"abc\"",
        expected: const { &hex::<32>("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") },
        compute: || Ok(mechanism::digest(Hash::Sha256, b"abc").as_ref().to_vec()),
    },
    KnownAnswer {
        name: "SHA-384",
        source: "FIPS 180-4, \"abc\"",
        expected: const {
            &hex::<48>(concat!(
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134",
                "c825a7",
            ))
        },
        compute: || Ok(mechanism::digest(Hash::Sha384, b"abc").as_ref().to_vec()),
    },
    KnownAnswer {
        name: "SHA-512",
        source: "FIPS 180-4, \"abc\"",
        expected: const {
            &hex::<64>(concat!(
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3",
                "feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ))
        },
        compute: || Ok(mechanism::digest(Hash::Sha512, b"abc").as_ref().to_vec()),
    },
    KnownAnswer {
        name: "HMAC-SHA-1",
        source: "RFC 2202 and RFC 4231, test case 2",
        expected: const { &hex::<20>("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79") },
        compute: || {
            code(
                KeyAlgorithm::GenericSecret(4),
                b"Jefe",
                SignMechanism::Hmac(Hash::Sha1),
                b"what do ya want for nothing?",
            )
        },
    },
    KnownAnswer {
        name: "HMAC-SHA-224",
        source: "RFC 2202 and RFC 4231, test case 2",
        expected: const { &hex::<28>("a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44") },
        compute: || {
            code(
                KeyAlgorithm::GenericSecret(4),
                b"Jefe",
                SignMechanism::Hmac(Hash::Sha224),
                b"what do ya want for nothing?",
            )
        },
    },
    KnownAnswer {
        name: "HMAC-SHA-256",
        source: "RFC 2202 and RFC 4231, test case 2",
        expected: const { &hex::<32>("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843") },
        compute: || {
            code(
                KeyAlgorithm::GenericSecret(4),
                b"Jefe",
                SignMechanism::Hmac(Hash::Sha256),
                b"what do ya want for nothing?",
            )
        },
    },
    KnownAnswer {
        name: "HMAC-SHA-384",
        source: "RFC 2202 and RFC 4231, test case 2",
        expected: const {
            &hex::<48>(concat!(
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfa",
                "b21649",
            ))
        },
        compute: || {
            code(
                KeyAlgorithm::GenericSecret(4),
                b"Jefe",
                SignMechanism::Hmac(Hash::Sha384),
                b"what do ya want for nothing?",
            )
        },
    },
    KnownAnswer {
        name: "HMAC-SHA-512",
        source: "RFC 2202 and RFC 4231, test case 2",
        expected: const {
            &hex::<64>(concat!(
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8",
                "f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ))
        },
        compute: || {
            code(
                KeyAlgorithm::GenericSecret(4),
                b"Jefe",
                SignMechanism::Hmac(Hash::Sha512),
                b"what do ya want for nothing?",
            )
        },
    },
    KnownAnswer {
        name: "AES-128-CMAC",
        source: "NIST SP 800-38B, example with 40 bytes",
        expected: const { &hex::<16>("dfa66747de9ae63030ca32611497c827") },
        compute: || code(KeyAlgorithm::Aes128, &super::AES_128, SignMechanism::AesCmac, &P[..40]),
    },
    KnownAnswer {
        name: "AES-192-CMAC",
        source: "NIST SP 800-38B, example with 40 bytes",
        expected: const { &hex::<16>("8a1de5be2eb31aad089a82e6ee908b0e") },
        compute: || code(KeyAlgorithm::Aes192, &super::AES_192, SignMechanism::AesCmac, &P[..40]),
    },
    KnownAnswer {
        name: "AES-256-CMAC",
        source: "NIST SP 800-38B, example with 40 bytes",
        expected: const { &hex::<16>("aaf3d8f1de5640c232f5b169b9c911e6") },
        compute: || code(KeyAlgorithm::Aes256, &super::AES_256, SignMechanism::AesCmac, &P[..40]),
    },
    KnownAnswer {
        name: "audit log's chain",
        source: "docs/audit-log.md: the head before the first record of replica 0",
        expected: const { &hex::<32>("3e21990dde128fe737afd8d878cbe83f150af7e42a02b017415615ff7cea3efc") },
        compute: || Ok(Head::genesis(0).0.to_vec()),
    },
];

fn code(
    algorithm: KeyAlgorithm,
    key: &[u8],
    mechanism: SignMechanism,
    data: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    mechanism::sign(&material(algorithm, key)?, mechanism, false, data).map_err(|_| Unspecified)
}
