//! Key algorithms, key usages and signature schemes.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A code that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {code:#06x}")]
pub struct UnknownCode {
    kind: &'static str,
    code: u16,
}

/// Type and size of a key pair.
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
}

impl KeyAlgorithm {
    /// All of them, in the order of the enumeration.
    pub const ALL: [Self; 7] =
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::P256, Self::P384, Self::P521, Self::Ed25519];

    /// The name that the command line and the configuration use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The schemes that a key of this algorithm can sign with, best first.
    pub fn schemes(self) -> &'static [SignatureScheme] {
        use SignatureScheme::{
            EcdsaP256Sha256, EcdsaP384Sha384, EcdsaP521Sha512, Ed25519, RsaPkcs1Sha256, RsaPkcs1Sha384,
            RsaPkcs1Sha512, RsaPssSha256, RsaPssSha384, RsaPssSha512,
        };
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => {
                &[RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512]
            }
            Self::P256 => &[EcdsaP256Sha256],
            Self::P384 => &[EcdsaP384Sha384],
            Self::P521 => &[EcdsaP521Sha512],
            Self::Ed25519 => &[Ed25519],
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.map(Self::name).into();
            format!("no such key algorithm; one of {}", names.join(", "))
        })
    }
}

/// What a key may be used for; fixed at its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyUsage {
    /// Signs whatever its owner asks.
    Sign,
    /// Signs TLS server handshakes (RFC 8446, section 4.4.3; RFC 8422, section 5.4) and its own certification
    /// request (RFC 2986), and nothing else.
    TlsServer,
}

impl KeyUsage {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sign, Self::TlsServer];

    /// The name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::TlsServer => "tls-server",
        }
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyUsage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|usage| usage.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.map(Self::name).into();
            format!("no such key usage; one of {}", names.join(", "))
        })
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
}

impl SignatureScheme {
    /// All of them.
    pub const ALL: [Self; 10] = [
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
    fn names_and_codes_go_both_ways() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
        for usage in KeyUsage::ALL {
            assert_eq!(usage.name().parse(), Ok(usage));
        }
        for scheme in SignatureScheme::ALL {
            assert_eq!(SignatureScheme::try_from(scheme.code()), Ok(scheme));
        }
        assert!(SignatureScheme::try_from(0x0201).is_err(), "SHA-1 is not offered");
    }

    #[test]
    fn every_scheme_belongs_to_an_algorithm() {
        for scheme in SignatureScheme::ALL {
            assert!(KeyAlgorithm::ALL.into_iter().any(|algorithm| algorithm.schemes().contains(&scheme)));
        }
    }
}
