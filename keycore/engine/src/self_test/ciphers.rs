//! Encryption.

use aws_lc_rs::error::Unspecified;

use keycore_wire::{CipherMechanism, KeyAlgorithm, WrapMechanism};

use super::known_answer::{ACCEPTED, KnownAnswer, REFUSED, hex, verdicts};
use super::{P, material};
use crate::denial::Denial;
use crate::mechanism;
use crate::seal::{self, NotAuthentic};

/// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16.
const KEY: [u8; 32] = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
const ADDITIONAL: [u8; 20] = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
/// Its plaintext.
const PLAIN: [u8; 60] = hex(concat!(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525",
    "b16aedf5aa0de657ba637b39",
));

/// SP 800-38A, appendix F.
const CBC_IV: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f");
const CTR_IV: [u8; 16] = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");

/// Nonce, ciphertext and tag of test case 16.
const ENCRYPTED: [u8; 88] = hex(concat!(
    "cafebabefacedbaddecaf888522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48",
    "590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
));

pub(super) const CIPHERS: &[KnownAnswer] = &[
    KnownAnswer {
        name: "AES-256-GCM, decryption",
        source: "GCM specification, test case 16",
        expected: &PLAIN,
        compute: || {
            seal::decrypt(&KEY, &ADDITIONAL, &ENCRYPTED)
                .map(|content| content.to_vec())
                .map_err(|_| Unspecified)
        },
    },
    KnownAnswer {
        name: "AES-256-GCM, encryption and a forged tag",
        source: "encrypted with a random nonce, then decrypted",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            let mut sealed = Vec::new();
            seal::encrypt(&KEY, &ADDITIONAL, b"content", &mut sealed)?;
            let opened = seal::decrypt(&KEY, &ADDITIONAL, &sealed);
            let same =
                opened.and_then(|content| if *content == b"content" { Ok(()) } else { Err(NotAuthentic) });
            if let Some(last) = sealed.last_mut() {
                *last ^= 1;
            }
            Ok(verdicts([same, seal::decrypt(&KEY, &ADDITIONAL, &sealed).map(|_| ())]))
        },
    },
    KnownAnswer {
        name: "AES-128-ECB, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf43b1cd7f598ece23881b00e3ed",
                "0306887b0c785e27e8ad3f8223207104725dd4",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes128, &super::AES_128, CipherMechanism::AesEcb, &[], &P),
    },
    KnownAnswer {
        name: "AES-128-CBC, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e22",
                "2295163ff1caa1681fac09120eca307586e1a7",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes128, &super::AES_128, CipherMechanism::AesCbc, &CBC_IV, &P),
    },
    KnownAnswer {
        name: "AES-128-CTR, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff5ae4df3edbd5d35e5b4f09020d",
                "b03eab1e031dda2fbe03d1792170a0f3009cee",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes128, &super::AES_128, CipherMechanism::AesCtr, &CTR_IV, &P),
    },
    KnownAnswer {
        name: "AES-192-ECB, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "bd334f1d6e45f25ff712a214571fa5cc974104846d0ad3ad7734ecb3ecee4eefef7afd2270e2e60adce0ba2fac",
                "e6444e9a4b41ba738d6c72fb16691603c18e0e",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes192, &super::AES_192, CipherMechanism::AesEcb, &[], &P),
    },
    KnownAnswer {
        name: "AES-192-CBC, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a571b242012fb7ae07fa9baac3d",
                "f102e008b0e27988598881d920a9e64f5615cd",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes192, &super::AES_192, CipherMechanism::AesCbc, &CBC_IV, &P),
    },
    KnownAnswer {
        name: "AES-192-CTR, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "1abc932417521ca24f2b0459fe7e6e0b090339ec0aa6faefd5ccc2c6f4ce8e941e36b26bd1ebc670d1bd1d6656",
                "20abf74f78a7f6d29809585a97daec58c6b050",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes192, &super::AES_192, CipherMechanism::AesCtr, &CTR_IV, &P),
    },
    KnownAnswer {
        name: "AES-256-ECB, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870b6ed21b99ca6f4f9f153e7b1be",
                "afed1d23304b7a39f9f3ff067d8d8f9e24ecc7",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes256, &super::AES_256, CipherMechanism::AesEcb, &[], &P),
    },
    KnownAnswer {
        name: "AES-256-CBC, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304",
                "231461b2eb05e2c39be9fcda6c19078c6a9d1b",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes256, &super::AES_256, CipherMechanism::AesCbc, &CBC_IV, &P),
    },
    KnownAnswer {
        name: "AES-256-CTR, both ways",
        source: "NIST SP 800-38A, appendix F",
        expected: const {
            &hex::<64>(concat!(
                "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c52b0930daa23de94ce87017ba2d",
                "84988ddfc9c58db67aada613c2dd08457941a6",
            ))
        },
        compute: || both_ways(KeyAlgorithm::Aes256, &super::AES_256, CipherMechanism::AesCtr, &CTR_IV, &P),
    },
    KnownAnswer {
        name: "AES-256-GCM with data to authenticate",
        source: "GCM specification, test case 16",
        expected: const {
            &hex::<76>(concat!(
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056",
                "828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
            ))
        },
        compute: || {
            let nonce = hex("cafebabefacedbaddecaf888");
            let key = material(KeyAlgorithm::Aes256, &KEY)?;
            let mechanism = CipherMechanism::AesGcm { aad: &ADDITIONAL };
            let made = mechanism::encrypt(&key, mechanism, &[], &PLAIN, || Ok(nonce));
            made.map(|made| made.bytes).map_err(|_| Unspecified)
        },
    },
    KnownAnswer {
        name: "AES key wrap, both ways",
        source: "RFC 3394, 4.6",
        expected: const {
            &hex::<40>("28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21")
        },
        compute: || {
            wrapped(
                WrapMechanism::AesKw,
                &hex::<32>("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f"),
            )
        },
    },
    KnownAnswer {
        name: "AES key wrap with padding, both ways",
        source: "RFC 5649, by OpenSSL 3",
        expected: const { &hex::<32>("29b7fa191c2165684374eee9f74595e2a42bace75c425b3053efa26ffe1bb32f") },
        compute: || wrapped(WrapMechanism::AesKwp, &hex::<20>("c37b7e6492584340bed12207808941155068f738")),
    },
];

/// Encrypts; an answer only if it decrypts to the same.
fn both_ways(
    algorithm: KeyAlgorithm,
    key: &[u8],
    mechanism: CipherMechanism<'_>,
    iv: &[u8],
    data: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let key = material(algorithm, key)?;
    let no_nonce = || Err(Denial::internal("no mode with a nonce"));
    let made = mechanism::encrypt(&key, mechanism, iv, data, no_nonce).map_err(|_| Unspecified)?;
    let back = mechanism::decrypt(&key, mechanism, iv, &made.bytes).map_err(|_| Unspecified)?;
    if back.expose() == data { Ok(made.bytes) } else { Err(Unspecified) }
}

/// Wraps under the key of RFC 3394's examples; an answer only if it unwraps to the same.
fn wrapped(mechanism: WrapMechanism, plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let key = material(KeyAlgorithm::Aes256, &core::array::from_fn::<u8, 32, _>(|at| at.to_le_bytes()[0]))?;
    let no_nonce = || Err(Denial::internal("no mode with a nonce"));
    let wrapped = mechanism::wrap(&key, mechanism, plain, no_nonce).map_err(|_| Unspecified)?;
    let back = mechanism::unwrap(&key, mechanism, &wrapped).map_err(|_| Unspecified)?;
    if back.expose() == plain { Ok(wrapped) } else { Err(Unspecified) }
}
