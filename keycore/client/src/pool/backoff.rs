use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// First pause after the immediate retry.
const FIRST: Duration = Duration::from_millis(10);

/// Longest pause while the engine may be restarting: it is used again at most so long after it is back.
const LONGEST_AT_FIRST: Duration = Duration::from_millis(150);

/// Longest pause once it was away for [`LONG`].
const LONGEST: Duration = Duration::from_secs(1);

/// From when on an engine is not just restarting.
const LONG: Duration = Duration::from_secs(30);

/// Pauses between tries to connect.
pub(super) struct Backoff {
    next: Duration,
    total: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: Duration::ZERO, total: Duration::ZERO }
    }

    /// The pause before the next try: none, then doubling, three quarters to five quarters of it so that many
    /// clients don't come at once.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        let longest = if self.total < LONG { LONGEST_AT_FIRST } else { LONGEST };
        self.next = (pause * 2).clamp(FIRST, longest);
        self.total += pause;
        let random = RandomState::new().hash_one(0_u8) % 512;
        pause.mul_f64(0.75 + random as f64 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_at_once_then_within_200_ms_and_later_every_second() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.pause(), Duration::ZERO);
        let mut slept = Duration::ZERO;
        while slept < Duration::from_secs(20) {
            let pause = backoff.pause();
            assert!(pause <= Duration::from_millis(200), "{pause:?} after {slept:?}");
            assert!(pause >= Duration::from_millis(7));
            slept += pause;
        }
        let late = (0..300).map(|_| backoff.pause()).last().unwrap();
        assert!((750..=1250).contains(&late.as_millis()), "{late:?}");
    }
}
