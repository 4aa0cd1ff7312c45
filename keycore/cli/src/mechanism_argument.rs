//! Mechanisms as they are named on the command line.

use core::str::FromStr;

use clap::ValueEnum;
use keycore_wire::{EcdsaEncoding, Hash, KeyAlgorithm, SignMechanism, WrapMechanism};

/// How a signature or an authentication code is made: `rsa-pss-sha256`, `ecdsa-sha384`, `hmac-sha256`. ECDSA signatures are
/// DER, or with `-fixed` behind the name r and s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignArgument(pub(crate) SignMechanism);

impl SignArgument {
    fn all() -> impl Iterator<Item = Self> {
        let of_a_hash = Hash::ALL.into_iter().flat_map(|hash| {
            [
                SignMechanism::RsaPkcs1(hash),
                SignMechanism::RsaPss(hash),
                SignMechanism::Ecdsa(hash, EcdsaEncoding::Der),
                SignMechanism::Ecdsa(hash, EcdsaEncoding::Fixed),
                SignMechanism::Hmac(hash),
            ]
        });
        let others = [
            SignMechanism::RsaPkcs1DigestInfo,
            SignMechanism::Ed25519,
            SignMechanism::MlDsa,
            SignMechanism::AesCmac,
        ];
        of_a_hash.chain(others).map(Self)
    }

    pub(crate) fn name(self) -> String {
        match self.0 {
            SignMechanism::Ecdsa(_, EcdsaEncoding::Fixed) => format!("{}-fixed", self.0),
            other => other.to_string(),
        }
    }

    /// What a key signs with unless told otherwise; none if it signs nothing.
    pub(crate) fn best(algorithm: KeyAlgorithm) -> Self {
        Self(match algorithm {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                SignMechanism::RsaPss(Hash::Sha256)
            }
            KeyAlgorithm::P256 | KeyAlgorithm::Secp256k1 => {
                SignMechanism::Ecdsa(Hash::Sha256, EcdsaEncoding::Der)
            }
            KeyAlgorithm::P384 => SignMechanism::Ecdsa(Hash::Sha384, EcdsaEncoding::Der),
            KeyAlgorithm::P521 => SignMechanism::Ecdsa(Hash::Sha512, EcdsaEncoding::Der),
            KeyAlgorithm::Ed25519 => SignMechanism::Ed25519,
            KeyAlgorithm::MlDsa44 | KeyAlgorithm::MlDsa65 | KeyAlgorithm::MlDsa87 => SignMechanism::MlDsa,
            KeyAlgorithm::Aes128 | KeyAlgorithm::Aes192 | KeyAlgorithm::Aes256 => SignMechanism::AesCmac,
            KeyAlgorithm::GenericSecret(_) => SignMechanism::Hmac(Hash::Sha256),
        })
    }
}

impl FromStr for SignArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|mechanism| mechanism.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(Self::name).collect();
            format!("no such mechanism; one of {}", names.join(", "))
        })
    }
}

/// How a key is wrapped: `aes-kwp`, `rsa-aes-sha256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrapArgument(pub(crate) WrapMechanism);

impl WrapArgument {
    fn all() -> impl Iterator<Item = WrapMechanism> {
        // RSA-OAEP is not offered with SHA-224.
        let hashes = Hash::ALL.into_iter().filter(|hash| *hash != Hash::Sha224);
        let of_a_hash = hashes.flat_map(|hash| [WrapMechanism::RsaOaep(hash), WrapMechanism::RsaAes(hash)]);
        [WrapMechanism::AesKwp, WrapMechanism::AesKw, WrapMechanism::AesGcm].into_iter().chain(of_a_hash)
    }
}

impl FromStr for WrapArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|mechanism| mechanism.to_string() == text).map(Self).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(|mechanism| mechanism.to_string()).collect();
            format!("no such mechanism; one of {}", names.join(", "))
        })
    }
}

/// How data is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CipherArgument {
    AesGcm,
    AesCbcPad,
    AesCbc,
    AesCtr,
    AesEcb,
    RsaOaep,
    RsaPkcs1,
}

impl CipherArgument {
    /// Length of the initialization vector that a ciphertext begins with.
    pub(crate) fn iv_len(self) -> usize {
        match self {
            Self::AesGcm => 12,
            Self::AesCbcPad | Self::AesCbc | Self::AesCtr => 16,
            Self::AesEcb | Self::RsaOaep | Self::RsaPkcs1 => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for mechanism in SignArgument::all() {
            assert_eq!(mechanism.name().parse(), Ok(mechanism));
        }
        for mechanism in WrapArgument::all() {
            assert_eq!(mechanism.to_string().parse(), Ok(WrapArgument(mechanism)));
        }
        assert!("rsa-pss-md5".parse::<SignArgument>().is_err() && "aes-cbc".parse::<WrapArgument>().is_err());
    }
}
