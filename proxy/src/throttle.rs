use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets one log line pass in a second, and counts what it held back.
pub(crate) struct Throttle {
    start: Instant,
    /// Milliseconds since `start` from which the next line may pass.
    next: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    const PERIOD: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), next: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// `Some` with the number of lines held back since the last one that passed, if this one may pass.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(self.start.elapsed())
    }

    fn pass_at(&self, elapsed: Duration) -> Option<u64> {
        let now = millis(elapsed);
        let next = self.next.load(Ordering::Relaxed);
        let after = now + millis(Self::PERIOD);
        if now < next
            || self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
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
}
