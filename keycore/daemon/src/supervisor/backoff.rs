//! How soon a dead replica is started again.

use std::time::Duration;

/// Counts deaths in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// Who served this long died of something new.
    const SETTLED: Duration = Duration::from_secs(2);
    /// First and longest wait for one that dies before it serves.
    const STILLBORN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
    /// Second and longest wait for one that served for a moment; the first is none. Short: clients are waiting for it.
    const SHORT_LIVED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

    /// The wait after the death of a process that has `served` so long, if it came to that.
    pub(super) fn after(&mut self, served: Option<Duration>) -> Duration {
        let (first, longest, doublings) = match served {
            Some(served) if served >= Self::SETTLED => {
                self.deaths = 0;
                return Duration::ZERO;
            }
            Some(_) if self.deaths == 0 => {
                self.deaths = 1;
                return Duration::ZERO;
            }
            Some(_) => (Self::SHORT_LIVED.0, Self::SHORT_LIVED.1, self.deaths - 1),
            None => (Self::STILLBORN.0, Self::STILLBORN.1, self.deaths),
        };
        self.deaths = self.deaths.saturating_add(1);
        first.saturating_mul(2_u32.saturating_pow(doublings)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(served: Option<Duration>, count: usize) -> Vec<u128> {
        let mut backoff = Backoff::default();
        (0..count).map(|_| backoff.after(served).as_millis()).collect()
    }

    #[test]
    fn who_served_returns_at_once() {
        assert_eq!(waits(Some(Duration::from_secs(2)), 3), [0, 0, 0]);
    }

    #[test]
    fn who_dies_young_waits_longer_each_time_but_never_above_a_second() {
        assert_eq!(waits(Some(Duration::ZERO), 8), [0, 50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn who_can_not_start_waits_up_to_ten_seconds() {
        assert_eq!(waits(None, 9), [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(waits(None, 100).last(), Some(&10_000), "and the doubling never overflows");
    }

    #[test]
    fn a_settled_life_forgives_what_was() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after(None);
        }
        assert_eq!(backoff.after(Some(Backoff::SETTLED)), Duration::ZERO);
        assert_eq!(backoff.after(None), Duration::from_millis(100));
    }
}
