use serde::{Deserialize, Serialize};

/// Most random bytes in one request.
pub const MAX_RANDOM: u16 = 4096;

/// Asks for random bytes from the engine's generator. Needs a login.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Random {
    /// How many, from 1 to [`MAX_RANDOM`].
    pub length: u16,
}

/// Random bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomBytes {
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}
