//! What opens the cluster, and whether it is a key or words.

use data_encoding::{BASE64, BASE64URL, HEXLOWER_PERMISSIVE};
use keycore_secmem::SecretBytes;
use zeroize::Zeroizing;

/// What opens the cluster: at least [`UnsealSecret::MIN`] bytes. Every replica has the same.
pub struct UnsealSecret(SecretBytes);

/// The unseal secret is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the unseal secret has {length} bytes, at least 16 are needed")]
pub struct UnsealTooShort {
    /// Its length in bytes.
    pub length: usize,
}

impl UnsealSecret {
    /// Shortest secret, in bytes.
    pub const MIN: usize = 16;

    /// Fewest random bytes that are a key.
    const KEY: usize = 32;

    /// Fewest different values among them: 32 random bytes have 30 of them, and fewer than 16 about never.
    const DIFFERENT: usize = 16;

    /// Takes over the secret.
    ///
    /// # Errors
    ///
    /// [`UnsealTooShort`].
    pub fn new(secret: SecretBytes) -> Result<Self, UnsealTooShort> {
        let length = secret.expose().len();
        if length < Self::MIN { Err(UnsealTooShort { length }) } else { Ok(Self(secret)) }
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Whether it looks like a random key, and need not be stretched: 32 bytes or more, in hexadecimal, in base64 with
    /// its padding `=`, or as they are if they are no text. Words in any language are none.
    pub(crate) fn is_a_key(&self) -> bool {
        let secret = self.expose();
        let decoded = HEXLOWER_PERMISSIVE
            .decode(secret)
            .or_else(|error| match secret.last() {
                Some(b'=') => BASE64.decode(secret).or_else(|_| BASE64URL.decode(secret)),
                _ => Err(error),
            })
            .map(Zeroizing::new);
        let bytes = match (&decoded, core::str::from_utf8(secret)) {
            (Ok(decoded), _) => &decoded[..],
            (Err(_), Err(_no_text)) => secret,
            (Err(_), Ok(_words)) => return false,
        };
        let mut seen = [false; 256];
        bytes.iter().for_each(|&byte| seen[usize::from(byte)] = true);
        bytes.len() >= Self::KEY && seen.iter().filter(|seen| **seen).count() >= Self::DIFFERENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: &[u8]) -> UnsealSecret {
        UnsealSecret::new(SecretBytes::copy_from(&mut bytes.to_vec()).unwrap()).unwrap()
    }

    #[test]
    fn a_short_secret_is_none() {
        let short = SecretBytes::copy_from(&mut [1; 15]).unwrap();
        assert_eq!(UnsealSecret::new(short).err(), Some(UnsealTooShort { length: 15 }));
    }

    #[test]
    fn random_bytes_are_a_key_and_words_are_not() {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        random[0] = 0xff; // never UTF-8
        for key in [
            random.to_vec(),
            BASE64.encode(&random).into_bytes(),
            BASE64URL.encode(&random).into_bytes(),
            data_encoding::HEXLOWER.encode(&random).into_bytes(),
            data_encoding::HEXUPPER.encode(&random).into_bytes(),
        ] {
            assert!(secret(&key).is_a_key(), "{} bytes", key.len());
        }
        for words in [
            &b"correct horse battery staple correct horse battery staple"[..],
            b"correcthorsebatterystaplecorrecthorsebattery", // base64 without padding, by chance
            "passwörter sind keine schlüssel, so lang sie sind".as_bytes(),
            &[b'a'; 64],
            &[7; 32],
            &[0xff; 64],
            data_encoding::HEXLOWER.encode(&random[..31]).as_bytes(),
            BASE64.encode(&random[..31]).as_bytes(),
        ] {
            assert!(!secret(words).is_a_key(), "{} bytes", words.len());
        }
    }
}
