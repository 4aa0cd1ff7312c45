use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use super::context::{SpanId, TraceId};

/// Names for traces and spans: a counter, hashed with a key of the system's. That is quick, and nobody meets another's names.
#[derive(Default)]
pub(super) struct Ids {
    hasher: RandomState,
    count: Cell<u64>,
}

impl Ids {
    /// Drawn evenly, but never zero.
    pub(super) fn number(&self) -> u64 {
        self.count.set(self.count.get().wrapping_add(1));
        self.hasher.hash_one(self.count.get()).max(1)
    }

    pub(super) fn trace(&self) -> TraceId {
        let (high, low) = (u128::from(self.number()), u128::from(self.number()));
        TraceId((high << 64 | low).to_be_bytes())
    }

    pub(super) fn span(&self) -> SpanId {
        SpanId(self.number().to_be_bytes())
    }
}
