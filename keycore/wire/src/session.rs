//! Who is logged in, and until when.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Manages users; owns no keys and uses none. CloudHSM's CO.
    Admin,
    /// Makes, owns and uses keys. CloudHSM's CU.
    CryptoUser,
    /// Looks after the machines: sees how the cluster is, and touches neither users nor keys. CloudHSM's AU.
    ApplianceUser,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admin, Self::CryptoUser, Self::ApplianceUser];

    /// The name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::CryptoUser => "crypto-user",
            Self::ApplianceUser => "appliance-user",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| "no such role; one of admin, crypto-user, appliance-user".to_owned())
    }
}

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This point plus `duration`, at most the end of time.
    #[must_use]
    pub fn plus(self, duration: core::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}
