use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// Longest time that a server is ejected for.
const LONGEST_EJECTION: Duration = Duration::from_secs(300);

/// What a server gets of its weight in the first moment after it came back.
const SLOWEST: f64 = 0.1;

/// How a server does, as the requests of all workers tell. Read for each request, written when something changes.
pub(super) struct Health {
    rules: Rules,
    start: Instant,
    /// Failures since the last success.
    failures: AtomicU32,
    /// Ejections since the last success that was none of a request on trial.
    ejections: AtomicU32,
    /// Milliseconds since `start`: no requests until then; 0 if it was never ejected.
    ejected_until: AtomicU64,
    /// Its health check says so.
    down: AtomicBool,
}

/// When a server is ejected, and how it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// So many failures in a row; 0 for never.
    pub(super) max_failures: u32,
    /// The first time.
    pub(super) eject: Duration,
    pub(super) slow_start: Duration,
}

/// Whether a server gets requests, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// It does.
    Up,
    /// Less than its share: it came back a short time ago.
    SlowStart,
    /// Requests failed.
    Ejected,
    /// Its health check failed.
    Down,
}

impl ServerState {
    pub(crate) const ALL: [Self; 4] = [Self::Up, Self::SlowStart, Self::Ejected, Self::Down];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SlowStart => "slow-start",
            Self::Ejected => "ejected",
            Self::Down => "down",
        }
    }

    /// Whether it gets requests.
    pub(crate) fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::SlowStart)
    }
}

impl Health {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            start: Instant::now(),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            down: AtomicBool::new(false),
        }
    }

    /// It answered, whatever it said.
    pub(super) fn succeeded(&self) {
        // Nearly always there is nothing to write, and then the cache line stays shared.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
        }
    }

    /// It did not. Returns for how long it is ejected, if this failure was the one too many.
    pub(super) fn failed(&self) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let (max, now) = (self.rules.max_failures, self.now());
        if max == 0 || failures < max || now < self.ejected_until.load(Relaxed) {
            return None;
        }
        // The count stays, so that one failure on trial ejects it again.
        let before = self.ejections.fetch_add(1, Relaxed).min(16);
        let time = self.rules.eject.saturating_mul(1 << before).min(LONGEST_EJECTION);
        self.ejected_until.store(now.saturating_add(millis(time)), Relaxed);
        Some(time)
    }

    /// Its health check has failed too often.
    pub(super) fn went_down(&self) {
        self.down.store(true, Relaxed);
    }

    /// Its health check has succeeded often enough: what requests have found before is forgiven.
    pub(super) fn came_back(&self) {
        self.failures.store(0, Relaxed);
        self.ejections.store(0, Relaxed);
        self.ejected_until.store(self.now().max(1), Relaxed);
        self.down.store(false, Relaxed);
    }

    /// Whether its health check says that it is down: it gets no requests then, whatever else there is.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Relaxed)
    }

    /// Whether it is to get requests.
    pub(super) fn is_up(&self) -> bool {
        if self.is_down() {
            return false;
        }
        let until = self.ejected_until.load(Relaxed);
        until == 0 || self.now() >= until
    }

    /// The same in more detail.
    pub(super) fn state(&self) -> ServerState {
        if self.is_down() {
            ServerState::Down
        } else if !self.is_up() {
            ServerState::Ejected
        } else if self.share() < 1.0 {
            ServerState::SlowStart
        } else {
            ServerState::Up
        }
    }

    /// What part of its weight it has now, more than 0 and at most 1: less than all of it for a time after it came back.
    pub(super) fn share(&self) -> f64 {
        let until = self.ejected_until.load(Relaxed);
        if until == 0 || self.rules.slow_start.is_zero() {
            return 1.0;
        }
        let back = Duration::from_millis(self.now().saturating_sub(until));
        (back.as_secs_f64() / self.rules.slow_start.as_secs_f64()).clamp(SLOWEST, 1.0)
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn health() -> Health {
        let slow_start = Duration::from_secs(20);
        Health::new(Rules { max_failures: 3, eject: Duration::from_secs(10), slow_start })
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_eject_for_longer_each_time_and_a_success_forgives() {
        let health = health();
        for _ in 0..5 {
            assert_eq!((health.failed(), health.failed()), (None, None));
            health.succeeded();
        }
        assert!(health.is_up());
        health.failed();
        health.failed();
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            let time = Duration::from_secs(seconds);
            assert_eq!(health.failed(), Some(time));
            assert_eq!(health.failed(), None, "it was on its way already");
            advance(time - Duration::from_millis(1)).await;
            assert!(!health.is_up());
            advance(Duration::from_millis(1)).await;
            assert!(health.is_up());
        }
        health.succeeded();
        health.failed();
        health.failed();
        assert_eq!(health.failed(), Some(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_down_as_long_as_its_check_says() {
        let health = health();
        for _ in 0..3 {
            health.failed();
        }
        health.went_down();
        advance(Duration::from_secs(3600)).await;
        assert!(health.is_down() && !health.is_up());
        assert_eq!(health.state(), ServerState::Down);
        health.came_back();
        assert!(!health.is_down() && health.is_up());
        assert!((health.share() - 0.1).abs() < 1e-9, "slowly");
        assert_eq!(health.state(), ServerState::SlowStart);
        health.failed();
        assert!(health.is_up(), "failures from before don't count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_came_back_starts_slowly() {
        let health = health();
        assert_eq!(health.share().to_bits(), 1f64.to_bits());
        for _ in 0..3 {
            health.failed();
        }
        assert_eq!(health.state(), ServerState::Ejected);
        advance(Duration::from_secs(10)).await;
        for (seconds, share) in [(0, 0.1), (5, 0.25), (5, 0.5), (10, 1.0), (100, 1.0)] {
            advance(Duration::from_secs(seconds)).await;
            assert!((health.share() - share).abs() < 1e-9, "{}", health.share());
        }
    }
}
