//! Key algorithms and signature schemes.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A code that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {code:#06x}")]
pub struct UnknownCode {
    kind: &'static str,
    code: u16,
}

/// Longest generic secret, in bytes.
pub const MAX_GENERIC_SECRET: u16 = 512;

/// Type and size of a key. Not offered: P-224, which aws-lc-rs has not, and 3DES, which NIST withdrew (SP 800-131A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// RSA with a modulus of 2048 bits and public exponent 65537.
    Rsa2048,
    /// RSA with a modulus of 3072 bits and public exponent 65537.
    Rsa3072,
    /// RSA with a modulus of 4096 bits and public exponent 65537.
    Rsa4096,
    /// NIST P-256 (secp256r1, SP 800-186).
    P256,
    /// NIST P-384 (secp384r1).
    P384,
    /// NIST P-521 (secp521r1).
    P521,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// secp256k1 (SEC 2).
    Secp256k1,
    /// ML-DSA-44 (FIPS 204).
    MlDsa44,
    /// ML-DSA-65 (FIPS 204).
    MlDsa65,
    /// ML-DSA-87 (FIPS 204).
    MlDsa87,
    /// AES with 128 bits.
    Aes128,
    /// AES with 192 bits.
    Aes192,
    /// AES with 256 bits.
    Aes256,
    /// A secret of so many bytes, 1 to [`MAX_GENERIC_SECRET`], for HMAC and key derivation.
    GenericSecret(u16),
}

/// PKCS#11's object class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// A private key, with its public half.
    KeyPair,
    /// A secret key.
    SecretKey,
}

impl KeyAlgorithm {
    /// All that have a private and a public half, in the order of the enumeration.
    pub const PAIRS: [Self; 11] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Ed25519,
        Self::Secp256k1,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// Those whose signatures TLS servers make today.
    pub const TLS: [Self; 7] =
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::P256, Self::P384, Self::P521, Self::Ed25519];

    /// The AES keys.
    pub const AES: [Self; 3] = [Self::Aes128, Self::Aes192, Self::Aes256];

    /// The name that the command line and the configuration use; a generic secret's length is told apart from it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Ed25519 => "ed25519",
            Self::Secp256k1 => "secp256k1",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
            Self::Aes128 => "aes-128",
            Self::Aes192 => "aes-192",
            Self::Aes256 => "aes-256",
            Self::GenericSecret(_) => "generic-secret",
        }
    }

    /// Key pair or secret key.
    pub fn class(self) -> KeyClass {
        if self.secret_len().is_some() { KeyClass::SecretKey } else { KeyClass::KeyPair }
    }

    /// Length of a secret key in bytes; none for a key pair.
    pub fn secret_len(self) -> Option<usize> {
        match self {
            Self::Aes128 => Some(16),
            Self::Aes192 => Some(24),
            Self::Aes256 => Some(32),
            Self::GenericSecret(length) => Some(length.into()),
            _ => None,
        }
    }

    /// Whether it is RSA.
    pub fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    /// Whether it is AES.
    pub fn is_aes(self) -> bool {
        Self::AES.contains(&self)
    }

    /// The schemes that a key of this algorithm can sign with, best first; none for a secret key.
    pub fn schemes(self) -> &'static [SignatureScheme] {
        use SignatureScheme::{
            EcdsaP256Sha256, EcdsaP384Sha384, EcdsaP521Sha512, EcdsaSecp256k1Sha256, Ed25519, MlDsa44,
            MlDsa65, MlDsa87, RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512, RsaPssSha256, RsaPssSha384,
            RsaPssSha512,
        };
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => {
                &[RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512]
            }
            Self::P256 => &[EcdsaP256Sha256],
            Self::P384 => &[EcdsaP384Sha384],
            Self::P521 => &[EcdsaP521Sha512],
            Self::Ed25519 => &[Ed25519],
            Self::Secp256k1 => &[EcdsaSecp256k1Sha256],
            Self::MlDsa44 => &[MlDsa44],
            Self::MlDsa65 => &[MlDsa65],
            Self::MlDsa87 => &[MlDsa87],
            Self::Aes128 | Self::Aes192 | Self::Aes256 | Self::GenericSecret(_) => &[],
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GenericSecret(length) => write!(f, "generic-secret ({length} bytes)"),
            other => f.write_str(other.name()),
        }
    }
}

/// Signature scheme, by its code in TLS (RFC 8446, section 4.2.3).
///
/// `RsaPss…` is RSASSA-PSS with a salt as long as the hash; ECDSA signatures are DER (RFC 3279, section 2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
#[repr(u16)]
pub enum SignatureScheme {
    /// rsa_pkcs1_sha256
    RsaPkcs1Sha256 = 0x0401,
    /// rsa_pkcs1_sha384
    RsaPkcs1Sha384 = 0x0501,
    /// rsa_pkcs1_sha512
    RsaPkcs1Sha512 = 0x0601,
    /// ecdsa_secp256r1_sha256
    EcdsaP256Sha256 = 0x0403,
    /// ecdsa_secp384r1_sha384
    EcdsaP384Sha384 = 0x0503,
    /// ecdsa_secp521r1_sha512
    EcdsaP521Sha512 = 0x0603,
    /// rsa_pss_rsae_sha256
    RsaPssSha256 = 0x0804,
    /// rsa_pss_rsae_sha384
    RsaPssSha384 = 0x0805,
    /// rsa_pss_rsae_sha512
    RsaPssSha512 = 0x0806,
    /// ed25519
    Ed25519 = 0x0807,
    /// mldsa44 (draft-ietf-tls-mldsa)
    MlDsa44 = 0x0904,
    /// mldsa65
    MlDsa65 = 0x0905,
    /// mldsa87
    MlDsa87 = 0x0906,
    /// ECDSA on secp256k1 with SHA-256: not in TLS, so the code is from its range for private use.
    EcdsaSecp256k1Sha256 = 0xfe01,
}

impl SignatureScheme {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
        Self::EcdsaP256Sha256,
        Self::EcdsaP384Sha384,
        Self::EcdsaP521Sha512,
        Self::RsaPssSha256,
        Self::RsaPssSha384,
        Self::RsaPssSha512,
        Self::Ed25519,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
        Self::EcdsaSecp256k1Sha256,
    ];

    /// The code on the wire, the same as in TLS.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Whether it is RSASSA-PKCS1-v1_5, which TLS 1.3 forbids in handshakes (RFC 8446, section 4.2.3).
    pub fn is_pkcs1(self) -> bool {
        matches!(self, Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512)
    }
}

impl TryFrom<u16> for SignatureScheme {
    type Error = UnknownCode;

    fn try_from(code: u16) -> Result<Self, UnknownCode> {
        Self::ALL
            .into_iter()
            .find(|scheme| scheme.code() == code)
            .ok_or(UnknownCode { kind: "signature scheme", code })
    }
}

impl From<SignatureScheme> for u16 {
    fn from(scheme: SignatureScheme) -> Self {
        scheme.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_both_ways() {
        for scheme in SignatureScheme::ALL {
            assert_eq!(SignatureScheme::try_from(scheme.code()), Ok(scheme));
        }
        assert!(SignatureScheme::try_from(0x0201).is_err(), "SHA-1 is not offered");
    }

    #[test]
    fn every_scheme_belongs_to_an_algorithm() {
        for scheme in SignatureScheme::ALL {
            assert!(KeyAlgorithm::PAIRS.into_iter().any(|algorithm| algorithm.schemes().contains(&scheme)));
        }
    }
}
