use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::KeyId;
use crate::list::at_most;
use crate::names::UserName;

/// Most users that a key is shared with.
pub const MAX_SHARES: usize = 64;

/// Lets another crypto user use a key of the user: not change, share or delete it. Sent twice, it does nothing more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShareKey {
    /// Which key.
    pub key: KeyId,
    /// Who may use it.
    pub with: UserName,
}

/// Takes back a share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnshareKey {
    /// Which key.
    pub key: KeyId,
    /// Who may no longer use it.
    pub with: UserName,
}

/// Asks whom a key of the user is shared with.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ListShares {
    /// Which key.
    pub key: KeyId,
}

/// Whom a key is shared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyShares {
    /// The users.
    pub with: Vec<UserName>,
}

/// Lists the keys that others share with the user, in the order of their ids, a page at a time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ListSharedKeys {
    /// The last id of the page before, or none for the first page.
    pub after: Option<KeyId>,
    /// Most entries wanted; [`MAX_PAGE`](crate::MAX_PAGE) at most are given.
    pub limit: u16,
}

/// Reads whom a new key is shared with: no more room is made than for the names that are there, [`MAX_SHARES`] at most.
pub(crate) fn sharees<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<UserName>, D::Error> {
    at_most::<MAX_SHARES, _, _>(source)
}
