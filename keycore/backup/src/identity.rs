//! X25519 identities and recipients, in the texts that `age-keygen` prints.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use data_encoding::HEXLOWER;
use zeroize::{Zeroize, Zeroizing};

use crate::error::InvalidKeyText;

const RECIPIENT: Hrp = Hrp::parse_unchecked("age");
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");

/// Whom a backup is encrypted to: an X25519 public key, `age1…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient(pub(crate) [u8; 32]);

impl Recipient {
    /// A short name of it that does not help to encrypt to it.
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = digest(&SHA256, self.to_string().as_bytes());
        Fingerprint(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32, _>(f, RECIPIENT, &self.0).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Recipient {
    type Err = InvalidKeyText;

    fn from_str(text: &str) -> Result<Self, InvalidKeyText> {
        let mut key = [0; 32];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if lower && decode(text, RECIPIENT, &mut key) {
            Ok(Self(key))
        } else {
            Err(InvalidKeyText::Recipient)
        }
    }
}

/// First eight bytes of the SHA-256 of a recipient's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What opens backups: an X25519 private key, `AGE-SECRET-KEY-1…`. Wiped when dropped; can't be printed by accident.
pub struct Identity(pub(crate) Zeroizing<[u8; 32]>);

impl Identity {
    /// Longest text of a file with an identity, in bytes.
    pub const MAX_TEXT: usize = 4096;

    /// A new one.
    ///
    /// # Errors
    ///
    /// If the random generator fails.
    pub fn generate() -> Result<Self, Unspecified> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(&mut *key)?;
        Ok(Self(key))
    }

    /// Reads a file as `age-keygen` writes it: comments behind `#`, empty lines, and one identity.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyText::Identity`] if there is none, several, or something else.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidKeyText> {
        let text = core::str::from_utf8(text).map_err(|_| InvalidKeyText::Identity)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut key = Zeroizing::new([0; 32]);
        match (lines.next(), lines.next()) {
            (Some(line), None) if line.is_ascii() && decode(line, IDENTITY, &mut key) => Ok(Self(key)),
            _ => Err(InvalidKeyText::Identity),
        }
    }

    /// The identity of these bytes, which are wiped.
    pub fn from_bytes(bytes: &mut [u8; 32]) -> Self {
        let identity = Self(Zeroizing::new(*bytes));
        bytes.zeroize();
        identity
    }

    /// Its bytes, for whoever splits it.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its text, in one line.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Long enough from the start: what grows leaves copies.
        let mut text = Zeroizing::new(String::with_capacity(128));
        let encoded = bech32::encode_upper_to_fmt::<Bech32, _>(&mut *text, IDENTITY, &*self.0);
        debug_assert!(encoded.is_ok(), "a string takes every character");
        text
    }

    /// Whom to encrypt to so that this identity opens it.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn recipient(&self) -> Result<Recipient, Unspecified> {
        let key = PrivateKey::from_private_key(&X25519, &*self.0).map_err(|_| Unspecified)?;
        let public = key.compute_public_key()?;
        public.as_ref().try_into().map(Recipient).map_err(|_| Unspecified)
    }
}

/// Decodes Bech32 (BIP 173) of exactly 32 bytes.
fn decode(text: &str, prefix: Hrp, out: &mut [u8; 32]) -> bool {
    let Ok(checked) = CheckedHrpstring::new::<Bech32>(text) else { return false };
    if checked.hrp() != prefix {
        return false;
    }
    let mut bytes = checked.byte_iter();
    let complete = out.iter_mut().all(|slot| bytes.next().map(|byte| *slot = byte).is_some());
    complete && bytes.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pair of age's test kit (C2SP CCTV).
    const PAIR: (&str, &str) = (
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj",
    );

    #[test]
    fn texts_are_those_of_age() {
        let identity = Identity::parse(format!("# a comment\n\n{}\n", PAIR.0).as_bytes()).ok().unwrap();
        assert_eq!(identity.expose(), &[0x42; 32]);
        assert_eq!(identity.to_text().as_str(), PAIR.0);
        let recipient = identity.recipient().unwrap();
        assert_eq!(recipient.to_string(), PAIR.1);
        assert_eq!(PAIR.1.parse(), Ok(recipient));
    }

    #[test]
    fn other_texts_are_refused() {
        let two = format!("{0}\n{0}", PAIR.0);
        let flipped = PAIR.0.replace("GAEX", "GAEZ");
        for text in ["", "# nothing", PAIR.1, &two, &flipped, &PAIR.0[1..]] {
            assert_eq!(Identity::parse(text.as_bytes()).err(), Some(InvalidKeyText::Identity), "{text}");
        }
        for text in ["", PAIR.0, &PAIR.1.to_uppercase(), &PAIR.1.replace("age1z", "age1q")] {
            assert_eq!(text.parse::<Recipient>(), Err(InvalidKeyText::Recipient), "{text}");
        }
    }
}
