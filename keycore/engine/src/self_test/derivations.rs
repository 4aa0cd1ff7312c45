//! Keys from secrets and from passwords.

use aws_lc_rs::error::Unspecified;

use super::known_answer::{KnownAnswer, hex};
use crate::{password, seal};

pub(super) const DERIVATIONS: &[KnownAnswer] = &[
    KnownAnswer {
        name: "HKDF-SHA-256",
        source: "RFC 5869, test case 1",
        expected: const { &hex::<32>("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf") },
        compute: || {
            let salt = const { hex::<13>("000102030405060708090a0b0c") };
            let info = const { hex::<10>("f0f1f2f3f4f5f6f7f8f9") };
            seal::derive_key(&salt, &[0x0b; 22], &info).map(|key| key.to_vec())
        },
    },
    KnownAnswer {
        name: "Argon2id",
        source: "reference implementation (phc-winner-argon2): 64 KiB, 2 passes",
        expected: const { &hex::<32>("1a98fba8e6394425c9bdc333a9c750aaf811df070f5fb4a5788e1cf4db5793a1") },
        compute: || {
            let hash = password::argon2id(b"password", 64, 2, b"somesaltsomesalt");
            hash.map(|hash| hash.to_vec()).map_err(|_| Unspecified)
        },
    },
];
