//! What a key holds: a key pair, or the bytes of a secret key.

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{digest, rand};
use keycore_wire::{KeyAlgorithm, MAX_GENERIC_SECRET, MAX_PKCS8, PlainKey, RefusalCode, Secret};
use zeroize::Zeroizing;

use crate::denial::Denial;
use crate::private_key::PrivateKey;

/// A key, ready to be used.
pub(crate) enum Material {
    Private(PrivateKey),
    Secret(SecretKey),
}

/// A secret key, as long as its algorithm says.
pub(crate) struct SecretKey {
    algorithm: KeyAlgorithm,
    bytes: Secret,
}

impl Material {
    /// Makes a key. A pair is proven consistent.
    pub(crate) fn generate(algorithm: KeyAlgorithm) -> Result<Self, Denial> {
        let Some(length) = algorithm.secret_len() else {
            return PrivateKey::generate(algorithm).map(Self::Private);
        };
        let mut bytes = Zeroizing::new(vec![0; length]);
        rand::fill(&mut bytes)?;
        SecretKey::new(algorithm, Secret::from(bytes)).map(Self::Secret)
    }

    /// Takes in one that was made elsewhere: a valid key of a supported algorithm, or `InvalidKey`.
    pub(crate) fn import(key: &PlainKey) -> Result<Self, Denial> {
        let secret =
            |algorithm, bytes: &Secret| SecretKey::new(algorithm, bytes.duplicate()).map(Self::Secret);
        match key {
            PlainKey::Pkcs8(pkcs8) if pkcs8.expose().len() > MAX_PKCS8 => {
                Err(Denial::malformed(format!("a private key has at most {MAX_PKCS8} bytes")))
            }
            PlainKey::Pkcs8(pkcs8) => PrivateKey::import(pkcs8.expose()).map(Self::Private),
            PlainKey::Aes(bytes) => {
                let is_it = |aes: &KeyAlgorithm| aes.secret_len() == Some(bytes.expose().len());
                match KeyAlgorithm::AES.into_iter().find(is_it) {
                    Some(algorithm) => secret(algorithm, bytes),
                    None => Err(invalid("an AES key has 16, 24 or 32 bytes")),
                }
            }
            PlainKey::GenericSecret(bytes) => {
                let length = u16::try_from(bytes.expose().len()).unwrap_or(u16::MAX);
                secret(KeyAlgorithm::GenericSecret(length), bytes)
            }
        }
    }

    /// Loads one that this cluster keeps.
    pub(crate) fn load(algorithm: KeyAlgorithm, stored: Secret) -> Result<Self, Denial> {
        if algorithm.secret_len().is_none() {
            return PrivateKey::load(algorithm, stored.expose()).map(Self::Private);
        }
        SecretKey::new(algorithm, stored)
            .map(Self::Secret)
            .map_err(|denial| Denial::internal(format!("a stored key does not load: {}", denial.refusal)))
    }

    /// As it is stored: PKCS#8, or the bytes.
    pub(crate) fn to_stored(&self) -> Result<Secret, Unspecified> {
        match self {
            Self::Private(private) => private.to_pkcs8().map(Secret::from),
            Self::Secret(secret) => Ok(secret.bytes.duplicate()),
        }
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Private(private) => private.algorithm(),
            Self::Secret(secret) => secret.algorithm,
        }
    }

    /// DER SubjectPublicKeyInfo; none for a secret key.
    pub(crate) fn spki(&self) -> Result<Option<Vec<u8>>, Unspecified> {
        match self {
            Self::Private(private) => private.spki().map(Some),
            Self::Secret(_) => Ok(None),
        }
    }

    /// First bytes of the zero block encrypted by an AES key, of the SHA-1 of a generic secret, of the SHA-1 of a
    /// public key: tells keys apart for people.
    pub(crate) fn check_value(&self) -> Result<[u8; 3], Unspecified> {
        match self {
            Self::Private(private) => sha1_start(private.public()),
            Self::Secret(secret) => secret.check_value(),
        }
    }
}

impl SecretKey {
    /// # Errors
    ///
    /// `InvalidKey` if the bytes are not as many as the algorithm has.
    pub(crate) fn new(algorithm: KeyAlgorithm, bytes: Secret) -> Result<Self, Denial> {
        let length = bytes.expose().len();
        if !(1..=usize::from(MAX_GENERIC_SECRET)).contains(&length) {
            return Err(invalid(&format!("a generic secret has 1 to {MAX_GENERIC_SECRET} bytes")));
        }
        if algorithm.secret_len() != Some(length) {
            return Err(invalid(&format!("{length} bytes are no key of type {}", algorithm.name())));
        }
        Ok(Self { algorithm, bytes })
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The bytes, for the one operation that needs them.
    pub(crate) fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    fn check_value(&self) -> Result<[u8; 3], Unspecified> {
        let aes = match self.algorithm {
            KeyAlgorithm::Aes128 => &AES_128,
            KeyAlgorithm::Aes192 => &AES_192,
            KeyAlgorithm::Aes256 => &AES_256,
            _ => return sha1_start(self.expose()),
        };
        let mut block = [0; 16];
        EncryptingKey::ecb(UnboundCipherKey::new(aes, self.expose())?)?.encrypt(&mut block)?;
        first_three(&block)
    }
}

fn sha1_start(bytes: &[u8]) -> Result<[u8; 3], Unspecified> {
    first_three(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

fn first_three(bytes: &[u8]) -> Result<[u8; 3], Unspecified> {
    bytes.first_chunk().copied().ok_or(Unspecified)
}

fn invalid(what: &str) -> Denial {
    Denial::new(RefusalCode::InvalidKey, format!("the key can't be taken in: {what}"))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn check_value(algorithm: KeyAlgorithm, bytes: &[u8]) -> String {
        let key = SecretKey::new(algorithm, Secret::new(bytes.to_vec())).ok().unwrap();
        HEXLOWER.encode(&key.check_value().unwrap())
    }

    /// AES: NIST's known answers of a zero key and a zero block. SHA-1: FIPS 180's "abc".
    #[test]
    fn check_values_are_the_known_ones() {
        assert_eq!(check_value(KeyAlgorithm::Aes128, &[0; 16]), "66e94b");
        assert_eq!(check_value(KeyAlgorithm::Aes192, &[0; 24]), "aae069");
        assert_eq!(check_value(KeyAlgorithm::Aes256, &[0; 32]), "dc95c0");
        assert_eq!(check_value(KeyAlgorithm::GenericSecret(3), b"abc"), "a9993e");
    }

    #[test]
    fn a_secret_key_is_as_long_as_it_says() {
        for (algorithm, length) in [
            (KeyAlgorithm::Aes128, 17),
            (KeyAlgorithm::GenericSecret(0), 0),
            (KeyAlgorithm::GenericSecret(513), 513),
            (KeyAlgorithm::GenericSecret(4), 5),
            (KeyAlgorithm::P256, 32),
        ] {
            let refused = SecretKey::new(algorithm, Secret::new(vec![1; length])).err().unwrap();
            assert_eq!(refused.refusal.code, RefusalCode::InvalidKey, "{algorithm} {length}");
        }
    }

    #[test]
    fn what_is_stored_loads_again() {
        for algorithm in KeyAlgorithm::PAIRS.into_iter().chain(KeyAlgorithm::AES) {
            if algorithm == KeyAlgorithm::Rsa4096 {
                continue;
            }
            let made = Material::generate(algorithm).ok().unwrap();
            let loaded = Material::load(algorithm, made.to_stored().unwrap()).ok().unwrap();
            assert_eq!(loaded.check_value().unwrap(), made.check_value().unwrap());
            assert_eq!((loaded.spki().unwrap(), loaded.algorithm()), (made.spki().unwrap(), algorithm));
        }
    }
}
