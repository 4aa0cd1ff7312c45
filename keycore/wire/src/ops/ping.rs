use serde::{Deserialize, Serialize};

/// Asks whether the engine's loop is alive. Needs no login.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ping;
