use serde::{Deserialize, Serialize};

use crate::ids::KeyId;
use crate::ops::generate_key::KeyInfo;

/// Most entries in one page of a list.
pub const MAX_PAGE: u16 = 256;

/// Lists the user's keys in the order of their ids, a page at a time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ListKeys {
    /// The last id of the page before, or none for the first page.
    pub after: Option<KeyId>,
    /// Most entries wanted; [`MAX_PAGE`] at most are given.
    pub limit: u16,
}

/// One page of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<KeyInfo>,
    /// Whether there are more behind the last one.
    pub more: bool,
}
