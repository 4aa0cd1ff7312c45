//! Signatures, made with keys that everybody knows.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use keycore_wire::{CipherMechanism, EcdsaEncoding, Hash, KeyAlgorithm, SignMechanism, SignatureScheme};

use super::known_answer::{ACCEPTED, KnownAnswer, REFUSED, hex, verdicts};
use super::material;
use crate::material::Material;
use crate::mechanism::{self, PublicKey};
use crate::private_key::PrivateKey;

/// What RFC 6979 signs in its appendix A.2; here too.
const MESSAGE: &[u8] = b"sample";

/// PKCS#8, made for these tests and published with them.
const RSA_2048: &[u8] = include_bytes!("known_keys/rsa-2048.pk8");
/// Its public half, as RSAPublicKey.
const RSA_2048_PUBLIC: &[u8] = include_bytes!("known_keys/rsa-2048.pub");
/// By OpenSSL 3.
const RSA_PSS_SIGNATURE: [u8; 256] = hex(concat!(
    "1db16e012059b13ac39b156a975655c7c6accef13f4723ebeab66c3f48ebfabef0c726f1c19e9ff3635dd565a90e0d4b",
    "6c8869ed7486d1994dc198ddfeb56187a9b2ac31de3bb74f2898b407698e294193a4ab162f87cebf479162b28529e658",
    "0bbf6990eddc417b4c31588666e9f2d1ef146302f9747ce9ca4faed0c598f36e3dd8a445179cd864b7c95cebfdd7c8aa",
    "f04e3a0cc3224b887fc1aa6c7a2569f638d970cee584bf3b1a8161e95a6085fea47842d8a52b66e23fee51f6e0140a59",
    "89c23f8e2227dff3c5c474a5d4c3d083bf302c3346245585ab4587de65d8366a769b0fba9f14abe39b400c91c76a47eb",
    "f7e8f1339567d498dc3b9b595279fa3d",
));

/// RFC 6979, A.2.5: key, public key, and the signature with SHA-256.
pub(super) const P256: &[u8] = include_bytes!("known_keys/p-256.pk8");
const P256_PUBLIC: [u8; 65] = hex(concat!(
    "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc",
    "64f2f1b20c2d7e9f5177a3c294d4462299",
));
const P256_SIGNATURE: [u8; 72] = hex(concat!(
    "3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716022100f7cb1c942d657c41",
    "d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
));

/// RFC 6979, A.2.6: key, public key, and the signature with SHA-384.
pub(super) const P384: &[u8] = include_bytes!("known_keys/p-384.pk8");
const P384_PUBLIC: [u8; 97] = hex(concat!(
    "04ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc",
    "138015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd25332647",
    "20",
));
const P384_SIGNATURE: [u8; 104] = hex(concat!(
    "306602310094edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd",
    "1e80fabe4602310099ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e",
    "7b82c71a38628ac8",
));

/// RFC 6979, A.2.7: key, public key, and the signature with SHA-512.
pub(super) const P521: &[u8] = include_bytes!("known_keys/p-521.pk8");
const P521_PUBLIC: [u8; 133] = hex(concat!(
    "0401894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb6",
    "33155d38ffa16d2bd761dcac474b9a2f5023a400493101c962cd4d2fddf782285e64584139c2f91b47f87ff82354d663",
    "0f746a28a0db25741b5b34a828008b22acc23f924faafbd4d33f81ea66956dfeaa2bfdfcf5",
));
const P521_SIGNATURE: [u8; 138] = hex(concat!(
    "308187024200c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c5f174e25a1ee9017b5d45060",
    "6add152b534931d7d4e8455cc91f9b15bf05ec36e377fa0241617cce7cf5064806c467f678d3b4080d6f1cc50af26ca2",
    "09417308281b68af282623eaa63e5b5c0723d8b8c37ff0777b1a20f8ccb1dccc43997f1ee0e44da4a67a",
));

/// The key of P-256 on another curve.
const SECP256K1_PUBLIC: [u8; 65] = hex(concat!(
    "042c8c31fc9f990c6b55e3865a184a4ce50e09481f2eaeb3e60ec1cea13a6ae64564b95e4fdb6948c0386e189b006a29",
    "f686769b011704275e4459822dc3328085",
));
const SECP256K1_SIGNATURE: [u8; 70] = hex(concat!(
    "30440220432310e32cb80eb6503a26ce83cc165c783b870845fb8aad6d970889fcd7a6c80220530128b6b81c548874a6",
    "305d93ed071ca6e05074d85863d4056ce89b02bfab69",
));

/// By OpenSSL 3.
const RSA_OAEP_CIPHERTEXT: [u8; 256] = hex(concat!(
    "52461187cd1642cb31b95559a377d30d5570a259cbc1542b3e06209ed2aa002f9e861830c78d00983fa1d981f4022c72",
    "223beadd971381390bd3523b069337a9a135654a99cb9865d5b05abc2d87d3872bafad197916971fdf56d101ae5ddfa1",
    "542d97185217ea882ed52a524a2b1164c34463cf6ef25b14cb9bd1f8cd8b95e9720b18b8a9e90717cef73562ef035543",
    "26aaa1b07bae3d2704a5bb0b5d0f762ebcfa5bf066dfa15fc291563b3c3eeef3b3e2f98d936ea54521d993112d670ed8",
    "037282e6e9a529e82993a3bd5c3f02912dcfbec1a5b99033aa74e5adb27f1c97f53d7e63bba42e92d50cda099bcf03c9",
    "a82923666cb9ec7abffe178a2ac93268",
));

/// RFC 8032, section 7.1, test 3.
const ED25519: &[u8] = include_bytes!("known_keys/ed25519.pk8");
const ED25519_PUBLIC: [u8; 32] = hex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
const ED25519_SIGNATURE: [u8; 64] = hex(concat!(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659",
    "4a7c15e9716ed28dc027beceea1ec40a",
));

pub(super) const SIGNATURES: &[KnownAnswer] = &[
    KnownAnswer {
        name: "RSA PKCS#1 v1.5 with SHA-256, signature",
        source: "OpenSSL 3",
        expected: const {
            &hex::<256>(concat!(
                "4de770cd0a813ebc1fe2b01b804c0478a78f7d12c52032d0cb2662b0af49e71d357ea3dba056e6b34284125955",
                "fd700b41c5bcebaa7c9cb9041fc15b2e1424cad5d28cff6ae16f448c43231eb50b3cde00c45068a7b31db57b04",
                "e1d23cb8bfa5ad8f41357c8decee0203f45eb8476a7fb16e3711b7ecf6af7e7f33c2556123651f7f3a4c5b47ec",
                "f3234fc8492baf5c63864c5fbfcb6e8d552954a53da1d8581ce15c88b4cf7509b5751a2388ba3853c745bd619b",
                "696f1f3223ce7db6bffbf124555d17dbb1169c18de67ed89a6b96c2796acf3da606df6d61238b83d8a9797ef62",
                "59cfc2c4ad74f583d2996b4cbf772fabfb7124fa54615a7a6f367ea681ced5",
            ))
        },
        compute: || sign(KeyAlgorithm::Rsa2048, RSA_2048, SignatureScheme::RsaPkcs1Sha256, MESSAGE),
    },
    KnownAnswer {
        name: "RSA-PSS with SHA-256, verification",
        source: "OpenSSL 3",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            verify(&signature::RSA_PSS_2048_8192_SHA256, RSA_2048_PUBLIC, MESSAGE, &RSA_PSS_SIGNATURE)
        },
    },
    KnownAnswer {
        name: "RSA-PSS with SHA-256, signature",
        source: "signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            let signature = sign(KeyAlgorithm::Rsa2048, RSA_2048, SignatureScheme::RsaPssSha256, MESSAGE)?;
            verify(&signature::RSA_PSS_2048_8192_SHA256, RSA_2048_PUBLIC, MESSAGE, &signature)
        },
    },
    KnownAnswer {
        name: "ECDSA P-256 with SHA-256, verification",
        source: "RFC 6979, A.2.5",
        expected: &[ACCEPTED, REFUSED],
        compute: || verify(&signature::ECDSA_P256_SHA256_ASN1, &P256_PUBLIC, MESSAGE, &P256_SIGNATURE),
    },
    KnownAnswer {
        name: "ECDSA P-256 with SHA-256, signature",
        source: "signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            let signature = sign(KeyAlgorithm::P256, P256, SignatureScheme::EcdsaP256Sha256, MESSAGE)?;
            verify(&signature::ECDSA_P256_SHA256_ASN1, &P256_PUBLIC, MESSAGE, &signature)
        },
    },
    KnownAnswer {
        name: "ECDSA P-384 with SHA-384, verification",
        source: "RFC 6979, A.2.6",
        expected: &[ACCEPTED, REFUSED],
        compute: || verify(&signature::ECDSA_P384_SHA384_ASN1, &P384_PUBLIC, MESSAGE, &P384_SIGNATURE),
    },
    KnownAnswer {
        name: "ECDSA P-384 with SHA-384, signature",
        source: "signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            let signature = sign(KeyAlgorithm::P384, P384, SignatureScheme::EcdsaP384Sha384, MESSAGE)?;
            verify(&signature::ECDSA_P384_SHA384_ASN1, &P384_PUBLIC, MESSAGE, &signature)
        },
    },
    KnownAnswer {
        name: "ECDSA P-521 with SHA-512, verification",
        source: "RFC 6979, A.2.7",
        expected: &[ACCEPTED, REFUSED],
        compute: || verify(&signature::ECDSA_P521_SHA512_ASN1, &P521_PUBLIC, MESSAGE, &P521_SIGNATURE),
    },
    KnownAnswer {
        name: "ECDSA P-521 with SHA-512, signature",
        source: "signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            let signature = sign(KeyAlgorithm::P521, P521, SignatureScheme::EcdsaP521Sha512, MESSAGE)?;
            verify(&signature::ECDSA_P521_SHA512_ASN1, &P521_PUBLIC, MESSAGE, &signature)
        },
    },
    KnownAnswer {
        name: "Ed25519, signature",
        source: "RFC 8032, 7.1, test 3",
        expected: &ED25519_SIGNATURE,
        compute: || sign(KeyAlgorithm::Ed25519, ED25519, SignatureScheme::Ed25519, &[0xaf, 0x82]),
    },
    KnownAnswer {
        name: "Ed25519, verification",
        source: "RFC 8032, 7.1, test 3",
        expected: &[ACCEPTED, REFUSED],
        compute: || verify(&signature::ED25519, &ED25519_PUBLIC, &[0xaf, 0x82], &ED25519_SIGNATURE),
    },
    KnownAnswer {
        name: "ECDSA secp256k1 with SHA-256, verification",
        source: "RFC 6979's method, by OpenSSL 3",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            verify(&signature::ECDSA_P256K1_SHA256_ASN1, &SECP256K1_PUBLIC, MESSAGE, &SECP256K1_SIGNATURE)
        },
    },
    KnownAnswer {
        name: "ECDSA secp256k1, key generation, signature and verification",
        source: "generated, signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || {
            generated(KeyAlgorithm::Secp256k1, SignMechanism::Ecdsa(Hash::Sha256, EcdsaEncoding::Der))
        },
    },
    KnownAnswer {
        name: "ML-DSA-44, key generation, signature and verification",
        source: "generated, signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || generated(KeyAlgorithm::MlDsa44, SignMechanism::MlDsa),
    },
    KnownAnswer {
        name: "ML-DSA-65, key generation, signature and verification",
        source: "generated, signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || generated(KeyAlgorithm::MlDsa65, SignMechanism::MlDsa),
    },
    KnownAnswer {
        name: "ML-DSA-87, key generation, signature and verification",
        source: "generated, signed, then verified",
        expected: &[ACCEPTED, REFUSED],
        compute: || generated(KeyAlgorithm::MlDsa87, SignMechanism::MlDsa),
    },
    KnownAnswer {
        name: "RSA-OAEP with SHA-256, decryption",
        source: "OpenSSL 3",
        expected: MESSAGE,
        compute: || {
            let key = material(KeyAlgorithm::Rsa2048, RSA_2048)?;
            let mechanism = CipherMechanism::RsaOaep { hash: Hash::Sha256, label: &[] };
            let plain = mechanism::decrypt(&key, mechanism, &[], &RSA_OAEP_CIPHERTEXT);
            plain.map(|plain| plain.expose().to_vec()).map_err(|_| Unspecified)
        },
    },
];

/// A fresh key's signature as its public half sees it.
fn generated(algorithm: KeyAlgorithm, mechanism: SignMechanism) -> Result<Vec<u8>, Unspecified> {
    let key = Material::generate(algorithm).map_err(|_| Unspecified)?;
    let spki = key.spki()?.ok_or(Unspecified)?;
    let public = PublicKey::from_spki(&spki).map_err(|_| Unspecified)?;
    let signature = mechanism::sign(&key, mechanism, false, MESSAGE).map_err(|_| Unspecified)?;
    Ok(verdicts(
        [MESSAGE, b"another"].map(|data| mechanism::verify(&public, mechanism, false, data, &signature)),
    ))
}

fn sign(
    algorithm: KeyAlgorithm,
    pkcs8: &[u8],
    scheme: SignatureScheme,
    message: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    PrivateKey::load(algorithm, pkcs8).map_err(|_| Unspecified)?.sign(scheme, message)
}

/// What the verifier says of a signature, and of the same one on another message.
fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let public = UnparsedPublicKey::new(algorithm, public);
    Ok(verdicts([public.verify(message, signature), public.verify(b"another", signature)]))
}
