use std::cell::Cell;

/// What each request earns: one retry for five.
const EARNED: f64 = 0.2;

/// Most that is saved up, and what there is at first: so few retries make no storm.
const SAVED: f64 = 10.0;

/// How many requests may be sent again, so that an upstream that fails does not get a multiple of its load on top.
pub(super) struct Budget(Cell<f64>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(SAVED))
    }

    pub(super) fn earn(&self) {
        self.0.set((self.0.get() + EARNED).min(SAVED));
    }

    /// Whether there may be another retry; it counts.
    pub(super) fn spend(&self) -> bool {
        let left = self.0.get() - 1.0;
        if left >= 0.0 {
            self.0.set(left);
        }
        left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_may_be_retried_and_some_at_first() {
        let budget = Budget::new();
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }
        assert!((200..=211).contains(&retries), "{retries}");
    }
}
