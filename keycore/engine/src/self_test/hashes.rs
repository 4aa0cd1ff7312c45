//! Digests, message authentication codes and the audit log's chain.

use aws_lc_rs::{digest, hmac};
use keycore_audit::Head;

use super::known_answer::{KnownAnswer, hex};
use crate::private_key::sha256;

pub(super) const HASHES: &[KnownAnswer] = &[
    KnownAnswer {
        name: "SHA-256",
        source: "FIPS 180-4, \"abc\"",
        expected: const { &hex::<32>("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") },
        compute: || Ok(sha256(b"abc").to_vec()),
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
        compute: || Ok(digest::digest(&digest::SHA384, b"abc").as_ref().to_vec()),
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
        compute: || Ok(digest::digest(&digest::SHA512, b"abc").as_ref().to_vec()),
    },
    KnownAnswer {
        name: "HMAC-SHA-256",
        source: "RFC 4231, test case 2",
        expected: const { &hex::<32>("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843") },
        compute: || {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
            Ok(hmac::sign(&key, b"what do ya want for nothing?").as_ref().to_vec())
        },
    },
    KnownAnswer {
        name: "audit log's chain",
        source: "docs/audit-log.md: the head before the first record of replica 0",
        expected: const { &hex::<32>("8029da7c25ad4c70ccd873c39a56a23ac6022501fc25ed10860dba0a60a83127") },
        compute: || Ok(Head::genesis(0).0.to_vec()),
    },
];
