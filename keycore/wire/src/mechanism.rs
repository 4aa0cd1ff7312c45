//! What a key is used with: hashes, and the mechanisms of signatures, encryption, derivation and wrapping.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hash function (FIPS 180-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Hash {
    /// SHA-1: no signature is made with it, old ones are verified; sound in HMAC and OAEP.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a digest, in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|hash| hash.name() == text)
            .ok_or_else(|| format!("no such hash; one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// How an ECDSA signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EcdsaEncoding {
    /// A DER sequence of r and s (RFC 3279, section 2.2.3).
    Der,
    /// r and s, each as long as the curve's order, as PKCS#11 and JOSE have it.
    Fixed,
}

/// How a signature or an authentication code is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignMechanism {
    /// RSASSA-PKCS1-v1_5 (RFC 8017, section 8.2).
    RsaPkcs1(Hash),
    /// The same, of a DigestInfo in DER that the caller made: PKCS#11's CKM_RSA_PKCS. It must be that of one of the hashes.
    RsaPkcs1DigestInfo,
    /// RSASSA-PSS (RFC 8017, section 8.1), MGF1 with the same hash and a salt as long as it.
    RsaPss(Hash),
    /// ECDSA (FIPS 186-5) with any hash on any curve.
    Ecdsa(Hash, EcdsaEncoding),
    /// PureEdDSA on edwards25519 (RFC 8032).
    Ed25519,
    /// ML-DSA (FIPS 204), pure, with an empty context.
    MlDsa,
    /// HMAC (FIPS 198-1), not truncated.
    Hmac(Hash),
    /// AES-CMAC (SP 800-38B), not truncated.
    AesCmac,
}

impl fmt::Display for SignMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaPkcs1(hash) => write!(f, "rsa-pkcs1-{hash}"),
            Self::RsaPkcs1DigestInfo => f.write_str("rsa-pkcs1-digest-info"),
            Self::RsaPss(hash) => write!(f, "rsa-pss-{hash}"),
            Self::Ecdsa(hash, _) => write!(f, "ecdsa-{hash}"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::MlDsa => f.write_str("ml-dsa"),
            Self::Hmac(hash) => write!(f, "hmac-{hash}"),
            Self::AesCmac => f.write_str("aes-cmac"),
        }
    }
}

/// How data is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CipherMechanism<'a> {
    /// AES in ECB mode (SP 800-38A): whole blocks; tells which blocks are equal.
    AesEcb,
    /// AES in CTR mode; the initialization vector is the first counter block.
    AesCtr,
    /// AES in CBC mode: whole blocks.
    AesCbc,
    /// AES in CBC mode with PKCS#7's padding.
    AesCbcPad,
    /// AES-GCM (SP 800-38D); the tag of 16 bytes ends the ciphertext.
    AesGcm {
        /// What is authenticated besides.
        #[serde(borrow, with = "serde_bytes")]
        aad: &'a [u8],
    },
    /// RSAES-OAEP (RFC 8017, section 7.1), MGF1 with the same hash.
    RsaOaep {
        /// Not SHA-224.
        hash: Hash,
        /// Mostly empty.
        #[serde(borrow, with = "serde_bytes")]
        label: &'a [u8],
    },
    /// RSAES-PKCS1-v1_5, for a key that has `pkcs1-decrypt`. A wrong padding is no error: it decrypts to something else.
    RsaPkcs1,
}

impl fmt::Display for CipherMechanism<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AesEcb => f.write_str("aes-ecb"),
            Self::AesCtr => f.write_str("aes-ctr"),
            Self::AesCbc => f.write_str("aes-cbc"),
            Self::AesCbcPad => f.write_str("aes-cbc-pad"),
            Self::AesGcm { .. } => f.write_str("aes-gcm"),
            Self::RsaOaep { hash, .. } => write!(f, "rsa-oaep-{hash}"),
            Self::RsaPkcs1 => f.write_str("rsa-pkcs1"),
        }
    }
}

/// How a key is derived from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeriveMechanism<'a> {
    /// ECDH (SP 800-56A, cofactor 1); the key is the leftmost bytes of the shared x coordinate.
    Ecdh {
        /// The other side's public key: SubjectPublicKeyInfo in DER, or an uncompressed point.
        #[serde(borrow, with = "serde_bytes")]
        peer: &'a [u8],
    },
    /// ECDH, then the KDF of ANSI X9.63 (SEC 1, section 3.6.1).
    EcdhX963 {
        /// As with `Ecdh`.
        #[serde(borrow, with = "serde_bytes")]
        peer: &'a [u8],
        /// Of the KDF.
        hash: Hash,
        /// SharedInfo.
        #[serde(borrow, with = "serde_bytes")]
        info: &'a [u8],
    },
    /// SP 800-108 in counter mode with HMAC, a counter of 32 bits before the fixed input. Not SHA-1.
    CounterKdf {
        /// Of HMAC.
        hash: Hash,
        /// Label, context and length as the protocol has them.
        #[serde(borrow, with = "serde_bytes")]
        fixed_input: &'a [u8],
    },
    /// HKDF (RFC 5869). Not SHA-224.
    Hkdf {
        /// Of HMAC.
        hash: Hash,
        /// Empty is the same as zeros.
        #[serde(borrow, with = "serde_bytes")]
        salt: &'a [u8],
        /// Context.
        #[serde(borrow, with = "serde_bytes")]
        info: &'a [u8],
    },
}

impl fmt::Display for DeriveMechanism<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecdh { .. } => f.write_str("ecdh"),
            Self::EcdhX963 { hash, .. } => write!(f, "ecdh-x963-{hash}"),
            Self::CounterKdf { hash, .. } => write!(f, "sp800-108-counter-hmac-{hash}"),
            Self::Hkdf { hash, .. } => write!(f, "hkdf-{hash}"),
        }
    }
}

/// How a key is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrapMechanism {
    /// AES key wrap (RFC 3394): AES-128 and AES-256, for keys of a multiple of 8 bytes, 16 at least.
    AesKw,
    /// AES key wrap with padding (RFC 5649): AES-128 and AES-256, for keys of any length.
    AesKwp,
    /// AES-GCM; what is wrapped begins with its nonce of 12 bytes and ends with its tag.
    AesGcm,
    /// RSAES-OAEP: for keys that are shorter than the modulus.
    RsaOaep(Hash),
    /// A fresh AES-256 key by RSAES-OAEP, then the key by AES key wrap with padding: PKCS#11's CKM_RSA_AES_KEY_WRAP.
    RsaAes(Hash),
}

impl fmt::Display for WrapMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AesKw => f.write_str("aes-kw"),
            Self::AesKwp => f.write_str("aes-kwp"),
            Self::AesGcm => f.write_str("aes-gcm"),
            Self::RsaOaep(hash) => write!(f, "rsa-oaep-{hash}"),
            Self::RsaAes(hash) => write!(f, "rsa-aes-{hash}"),
        }
    }
}
