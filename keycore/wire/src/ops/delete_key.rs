use serde::{Deserialize, Serialize};

use crate::ids::KeyId;

/// Deletes a key of the user, on all replicas, for good. Refused with `NotFound`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct DeleteKey {
    /// Which; an id, so that nothing else is deleted by mistake.
    pub key: KeyId,
}
