use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets so many log lines pass in a time, and counts what it held back.
pub(crate) struct Throttle {
    start: Instant,
    /// Milliseconds since `start` at which all lines that have passed are paid for, one each `period`.
    paid: AtomicU64,
    held_back: AtomicU64,
    /// Milliseconds for each line.
    period: u64,
    /// How many milliseconds may be owed.
    credit: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl Throttle {
    /// One line in a second.
    pub(crate) fn new() -> Self {
        Self::bursts(1, Duration::from_secs(1))
    }

    /// One line in each `period`, and up to `burst` at once after a silence.
    pub(crate) fn bursts(burst: u64, period: Duration) -> Self {
        let period = millis(period);
        let credit = burst.saturating_sub(1) * period;
        Self { start: Instant::now(), paid: AtomicU64::new(0), held_back: AtomicU64::new(0), period, credit }
    }

    /// `Some` with the number of lines held back since the last one that passed, if this one may pass.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(self.start.elapsed())
    }

    fn pass_at(&self, elapsed: Duration) -> Option<u64> {
        let now = millis(elapsed);
        let spend = |paid: u64| (paid <= now + self.credit).then(|| paid.max(now) + self.period);
        if self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_a_second_and_the_next_one_tells_of_the_others() {
        let throttle = Throttle::new();
        assert_eq!(throttle.pass_at(Duration::from_millis(5)), Some(0));
        assert_eq!(throttle.pass_at(Duration::from_millis(5)), None);
        assert_eq!(throttle.pass_at(Duration::from_millis(1004)), None);
        assert_eq!(throttle.pass_at(Duration::from_millis(1005)), Some(2));
        assert_eq!(throttle.pass_at(Duration::from_millis(9000)), Some(0));
    }

    #[test]
    fn a_burst_passes_after_a_silence_and_then_one_line_each_period() {
        let throttle = Throttle::bursts(3, Duration::from_millis(500));
        let passed = |at| (0..10).filter(|_| throttle.pass_at(Duration::from_millis(at)).is_some()).count();
        assert_eq!(passed(0), 3);
        assert_eq!(passed(499), 0);
        assert_eq!(passed(500), 1);
        assert_eq!(passed(60_000), 3);
    }
}
