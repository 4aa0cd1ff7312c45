//! Encryption.

use aws_lc_rs::error::Unspecified;

use super::known_answer::{ACCEPTED, KnownAnswer, REFUSED, hex, verdicts};
use crate::seal::{self, NotAuthentic};

/// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16.
const KEY: [u8; 32] = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
const ADDITIONAL: [u8; 20] = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
/// Nonce, ciphertext and tag.
const ENCRYPTED: [u8; 88] = hex(concat!(
    "cafebabefacedbaddecaf888522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48",
    "590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
));

pub(super) const CIPHERS: &[KnownAnswer] = &[
    KnownAnswer {
        name: "AES-256-GCM, decryption",
        source: "GCM specification, test case 16",
        expected: const {
            &hex::<60>(concat!(
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449",
                "a6b525b16aedf5aa0de657ba637b39",
            ))
        },
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
];
