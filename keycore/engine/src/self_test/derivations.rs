//! Keys from secrets and from passwords.

use aws_lc_rs::error::Unspecified;

use keycore_wire::{DeriveMechanism, Hash, KeyAlgorithm};

use super::known_answer::{KnownAnswer, hex};
use super::{material, signatures};
use crate::material::Material;
use crate::{mechanism, password, seal};

/// Public keys of the other side.
const P256_PEER: [u8; 65] = hex(concat!(
    "048ac18823730cb76211e007006c989a54e5ad88ddf520c05afd9232c87c3e2c5e624b569e4b6d72fd9c300b99255b89",
    "bc0262b5878249da1f5d483594935b731a",
));
const P384_PEER: [u8; 97] = hex(concat!(
    "045b8943751cb7934c5723512e2a2a212d1977c4e2cbf8f549ffeecea18048061c9a514e12dc04d4ab8d8fd447a10dca",
    "a46fbb8ce275c784ce2ee2cefb9e79f2e8dd9cbcc1949ca5ea5699e3942f9203dc01c7e3c13c20853b76ec9a8741535f",
    "84",
));
const P521_PEER: [u8; 133] = hex(concat!(
    "0401288430a4239b121949f52db0b01516a727532245299b7647f156048759243e9e59eb44b8a3a0f881a4aa8c09b964",
    "f858e999e453f0a25cc5ac99172dc65a16f0e6013a01ef5dec812ecddc955f20456e343492a5217454e0a3d3417612d0",
    "a79d72fc1b6eb5fab0e77be2ac7491e8f770617a1e200bf652bf5158661a16b9c63c0ea4d0",
));

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
    KnownAnswer {
        name: "SP 800-108 in counter mode with HMAC-SHA-256",
        source: "OpenSSL 3",
        expected: const { &hex::<32>("18b8910606f09c475658fb393a63521855b7deee922916562c76d87ba4f91aa8") },
        compute: || {
            let key = material(
                KeyAlgorithm::GenericSecret(32),
                &core::array::from_fn::<u8, 32, _>(|at| at.to_le_bytes()[0]),
            )?;
            let fixed_input = b"label\0context";
            derived(&key, DeriveMechanism::CounterKdf { hash: Hash::Sha256, fixed_input }, 32)
        },
    },
    KnownAnswer {
        name: "ECDH P-256",
        source: "OpenSSL 3, with the key of RFC 6979",
        expected: const { &hex::<32>("c679f01858516bca4a9669e73b9265162e547dd3ecca0ec678245cf8811a4cd9") },
        compute: || {
            let key = material(KeyAlgorithm::P256, signatures::P256)?;
            let peer = &P256_PEER;
            derived(&key, DeriveMechanism::Ecdh { peer }, 32)
        },
    },
    KnownAnswer {
        name: "ECDH P-384",
        source: "OpenSSL 3, with the key of RFC 6979",
        expected: const {
            &hex::<48>(concat!(
                "f663a1f44398ab8516c434b91a2b43e94ca3e4f1b00214baa0165ab32f3115149d66de6d0ee9b5216ccf37d840",
                "5e6150",
            ))
        },
        compute: || {
            let key = material(KeyAlgorithm::P384, signatures::P384)?;
            let peer = &P384_PEER;
            derived(&key, DeriveMechanism::Ecdh { peer }, 48)
        },
    },
    KnownAnswer {
        name: "ECDH P-521",
        source: "OpenSSL 3, with the key of RFC 6979",
        expected: const {
            &hex::<66>(concat!(
                "0042e18c4496a662e64a6b7f1ee71d66c04b053503168c35a7e52c14cc1227a210f66eec8d14616e927382395a",
                "a1a1576ea5a396a040dc1eea8bb79b3716d5311d1b",
            ))
        },
        compute: || {
            let key = material(KeyAlgorithm::P521, signatures::P521)?;
            let peer = &P521_PEER;
            derived(&key, DeriveMechanism::Ecdh { peer }, 66)
        },
    },
];

fn derived(key: &Material, mechanism: DeriveMechanism<'_>, length: usize) -> Result<Vec<u8>, Unspecified> {
    mechanism::derive(key, mechanism, length).map(|derived| derived.to_vec()).map_err(|_| Unspecified)
}
