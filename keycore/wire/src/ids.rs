//! Identifiers. Each is a type of its own, so that none can stand where another is meant.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Reads the lower- or upper-case hexadecimal form that `Display` writes.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let mut bytes = [0; $bytes];
                parse_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
    };
}

id! {
    /// A key. Chosen at random by the engine, never used again after the key is deleted.
    KeyId, 16
}
id! {
    /// A user. Chosen at random by the engine, so that a new user with an old name inherits nothing.
    UserId, 16
}
id! {
    /// A cluster: the engines that share one store and one cluster key.
    ClusterId, 16
}
id! {
    /// Names a request that creates something, so that the same request sent twice creates it once.
    /// Random, chosen by the client.
    IdempotencyKey, 16
}
id! {
    /// SHA-256 of a DER SubjectPublicKeyInfo (RFC 5280, section 4.1): what a certificate and its key have in common.
    SpkiSha256, 32
}

id! {
    /// A session, as lists and audit records name it: not its token, and nobody can log in with it.
    SessionHandle, 16
}

id! {
    /// A proposal that waits for approvals.
    QuorumTokenId, 16
}

/// Text that is not the hexadecimal form of the identifier asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct InvalidId {
    /// Digits of a well-formed one.
    pub expected: usize,
}

fn parse_hex(text: &str, out: &mut [u8]) -> Result<(), InvalidId> {
    let invalid = InvalidId { expected: out.len() * 2 };
    if text.len() != out.len() * 2 {
        return Err(invalid);
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(invalid);
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_goes_both_ways() {
        let id = KeyId(core::array::from_fn(|i| u8::try_from(i * 17).unwrap()));
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("00112233445566778899AABBCCDDEEFF".parse(), Ok(id));
    }

    #[test]
    fn wrong_text_names_the_expected_length() {
        for text in ["", "00", "zz112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff0"] {
            assert_eq!(text.parse::<KeyId>().unwrap_err().to_string(), "expected 32 hexadecimal digits");
        }
    }
}
