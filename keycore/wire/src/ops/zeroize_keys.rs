use serde::{Deserialize, Serialize};

use crate::names::UserName;

/// Deletes all keys of a user on all replicas, for good, destroyable or not. Needs the role admin. Sent again, it deletes
/// what is left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZeroizeKeys {
    /// Whose.
    pub user: UserName,
}

/// How many keys are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zeroized {
    /// Deleted by this request.
    pub keys: u64,
}
