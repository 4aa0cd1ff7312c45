//! Names that people choose, valid by construction.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that can't be a name of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} has 1 to {max} {allowed}")]
pub struct InvalidName {
    kind: &'static str,
    max: usize,
    allowed: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:literal, $permit:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Longest one, in bytes.
            pub const MAX: usize = $max;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let permit: fn(char) -> bool = $permit;
                if text.is_empty() || text.len() > $max || !text.chars().all(permit) {
                    return Err(InvalidName { kind: $kind, max: $max, allowed: $allowed });
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Name of a user: 1 to 31 ASCII letters, digits, `-`, `_`, `.` or `@`. Case counts.
    UserName, "user name", 31, "ASCII letters, digits, '-', '_', '.' or '@'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@')
}
name! {
    /// Label of a key, unique among its owner's keys: 1 to 64 printable ASCII characters without spaces.
    KeyLabel, "key label", 64, "printable ASCII characters without spaces", |c| c.is_ascii_graphic()
}
name! {
    /// Where an engine runs, as its operator calls it: 1 to 31 ASCII letters, digits, `-`, `_` or `.`.
    ZoneName, "zone", 31, "ASCII letters, digits, '-', '_' or '.'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_up_to_the_limit_and_says_what_is_allowed() {
        assert_eq!("alice@ops".parse::<UserName>().unwrap().as_str(), "alice@ops");
        assert!("a".repeat(31).parse::<UserName>().is_ok());
        assert!("a".repeat(32).parse::<UserName>().is_err());
        let error = "no spaces".parse::<UserName>().unwrap_err();
        assert_eq!(error.to_string(), "a user name has 1 to 31 ASCII letters, digits, '-', '_', '.' or '@'");
        assert!("tls/www.example.org".parse::<KeyLabel>().is_ok());
        for label in ["", "two words", "tab\t", "é"] {
            assert!(label.parse::<KeyLabel>().is_err(), "{label:?}");
        }
    }
}
