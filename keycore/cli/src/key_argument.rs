use core::str::FromStr;

use keycore_wire::{KeySelector, SignatureScheme};

/// A key as it is named on the command line: its label, its id, or its public key's hash.
///
/// 32 hexadecimal digits are an id and 64 a hash, as `hsm key list` shows them; `label:`, `id:` and `spki:` in front
/// leave no doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyArgument(pub(crate) KeySelector);

impl FromStr for KeyArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |text: &str| text.parse().map(KeySelector::Label).map_err(|error| format!("{error}"));
        let id = |text: &str| text.parse().map(KeySelector::Id).map_err(|error| format!("{error}"));
        let spki = |text: &str| text.parse().map(KeySelector::SpkiSha256).map_err(|error| format!("{error}"));
        match text.split_once(':') {
            Some(("label", text)) => label(text),
            Some(("id", text)) => id(text),
            Some(("spki", text)) => spki(text),
            _ => id(text).or_else(|_| spki(text)).or_else(|_| label(text)),
        }
        .map(Self)
    }
}

/// A signature scheme by its name in TLS (RFC 8446, section 4.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchemeArgument(pub(crate) SignatureScheme);

impl SchemeArgument {
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            SignatureScheme::RsaPkcs1Sha256 => "rsa_pkcs1_sha256",
            SignatureScheme::RsaPkcs1Sha384 => "rsa_pkcs1_sha384",
            SignatureScheme::RsaPkcs1Sha512 => "rsa_pkcs1_sha512",
            SignatureScheme::EcdsaP256Sha256 => "ecdsa_secp256r1_sha256",
            SignatureScheme::EcdsaP384Sha384 => "ecdsa_secp384r1_sha384",
            SignatureScheme::EcdsaP521Sha512 => "ecdsa_secp521r1_sha512",
            SignatureScheme::RsaPssSha256 => "rsa_pss_rsae_sha256",
            SignatureScheme::RsaPssSha384 => "rsa_pss_rsae_sha384",
            SignatureScheme::RsaPssSha512 => "rsa_pss_rsae_sha512",
            SignatureScheme::Ed25519 => "ed25519",
            SignatureScheme::MlDsa44 => "mldsa44",
            SignatureScheme::MlDsa65 => "mldsa65",
            SignatureScheme::MlDsa87 => "mldsa87",
            SignatureScheme::EcdsaSecp256k1Sha256 => "ecdsa_secp256k1_sha256",
        }
    }
}

impl FromStr for SchemeArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = SignatureScheme::ALL.map(Self);
        all.into_iter()
            .find(|scheme| scheme.name() == text)
            .ok_or_else(|| format!("no such signature scheme; one of {}", all.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_labels() {
        let id = "00112233445566778899aabbccddeeff";
        let parse = |text: &str| text.parse::<KeyArgument>().map(|KeyArgument(selector)| selector);
        assert_eq!(parse(id), Ok(KeySelector::Id(id.parse().unwrap())));
        assert_eq!(parse(&format!("id:{id}")), parse(id));
        assert_eq!(parse(&format!("label:{id}")), Ok(KeySelector::Label(id.parse().unwrap())));
        assert!(matches!(parse(&"ab".repeat(32)), Ok(KeySelector::SpkiSha256(_))));
        assert_eq!(parse("tls:www"), Ok(KeySelector::Label("tls:www".parse().unwrap())));
        for bad in ["", "id:www", "spki:00", "two words"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scheme_names_go_both_ways() {
        for scheme in SignatureScheme::ALL.map(SchemeArgument) {
            assert_eq!(scheme.name().parse(), Ok(scheme));
        }
        assert!("rsa_pkcs1_sha1".parse::<SchemeArgument>().is_err());
    }
}
