use serde::{Deserialize, Serialize};

use crate::ids::ClusterId;

/// Destroys the cluster: its key, all users, all keys, everything in the store. Needs the role admin.
///
/// All engines forget what they know and start anew, uninitialized. The audit logs stay.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ZeroizeCluster {
    /// The cluster that asks to be destroyed: no other is, by mistake.
    pub cluster: ClusterId,
}
