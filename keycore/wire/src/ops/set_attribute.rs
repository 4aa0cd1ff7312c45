use serde::{Deserialize, Serialize};

use crate::attribute::Attribute;
use crate::ids::KeyId;
use crate::names::KeyLabel;

/// Changes a key of the user; an admin sets or takes back `trusted` on anybody's.
///
/// Refused with `AttributeFixed` if the key is not modifiable, or the attribute does not change in this direction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetAttribute {
    /// Which key.
    pub key: KeyId,
    /// What of it.
    pub change: AttributeChange,
}

/// What of a key is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeChange {
    /// One attribute, on or off.
    Set(Attribute, bool),
    /// The label.
    Label(KeyLabel),
}
