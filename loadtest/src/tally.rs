//! What one thread, and then all of them, counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::handshake::Negotiated;

/// Counts and latencies of handshakes.
#[derive(Clone, Debug)]
pub struct Tally {
    begun: Instant,
    /// Microseconds from the beginning to the client's Finished; successful handshakes only.
    pub(crate) latency: Histogram<u64>,
    pub(crate) failures: BTreeMap<String, FailureCount>,
    pub(crate) seconds: Vec<SecondTally>,
    pub(crate) negotiated: Option<Negotiated>,
    pub(crate) in_flight: u64,
}

/// Failures of one category.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailureCount {
    pub(crate) count: u64,
    /// The first one's own words.
    pub(crate) example: String,
}

/// What came to its end in one second of the load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SecondTally {
    pub(crate) handshakes: u64,
    pub(crate) failed: u64,
    pub(crate) worst: Duration,
}

impl Tally {
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            begun,
            latency: new_histogram(),
            failures: BTreeMap::new(),
            seconds: Vec::new(),
            negotiated: None,
            in_flight: 0,
        }
    }

    pub(crate) fn succeeded(&mut self, latency: Duration, now: Instant) {
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        let second = self.second(now);
        second.handshakes += 1;
        second.worst = second.worst.max(latency);
    }

    pub(crate) fn failed(&mut self, failure: &Failure, now: Instant) {
        let entry = self.failures.entry(failure.category()).or_default();
        if entry.count == 0 {
            entry.example = failure.to_string();
        }
        entry.count += 1;
        self.second(now).failed += 1;
    }

    fn second(&mut self, now: Instant) -> &mut SecondTally {
        let index =
            usize::try_from(now.saturating_duration_since(self.begun).as_secs()).unwrap_or(usize::MAX);
        if index >= self.seconds.len() {
            self.seconds.resize(index + 1, SecondTally::default());
        }
        &mut self.seconds[index]
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: Self) {
        // Both histograms have the same bounds, so the sum can't be refused.
        let _same_bounds = self.latency.add(&other.latency);
        for (category, failures) in other.failures {
            let entry = self.failures.entry(category).or_default();
            if entry.count == 0 {
                entry.example = failures.example;
            }
            entry.count += failures.count;
        }
        self.seconds.resize(self.seconds.len().max(other.seconds.len()), SecondTally::default());
        for (mine, theirs) in self.seconds.iter_mut().zip(other.seconds) {
            mine.handshakes += theirs.handshakes;
            mine.failed += theirs.failed;
            mine.worst = mine.worst.max(theirs.worst);
        }
        self.negotiated = self.negotiated.take().or(other.negotiated);
        self.in_flight += other.in_flight;
    }

    /// Handshakes that succeeded.
    pub fn handshakes(&self) -> u64 {
        self.latency.len()
    }

    /// Handshakes that failed, for whatever reason.
    pub fn failed_count(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }

    /// Failures of one category, as [`Failure::category`] names it.
    pub fn failed_by(&self, category: &str) -> u64 {
        self.failures.get(category).map_or(0, |failures| failures.count)
    }

    /// Handshakes that were under way when the load was broken off: neither successes nor failures.
    pub fn abandoned(&self) -> u64 {
        self.in_flight
    }

    /// The latency that a share `quantile` of the successful handshakes did not exceed.
    pub fn latency_at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// The longest of the successful handshakes.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.latency.max())
    }
}

/// One microsecond to ten minutes, three significant digits.
fn new_histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 600_000_000, 3) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("constant bounds that the library accepts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let begun = Instant::now();
        let mut all = Tally::new(begun);
        for thread in 1..=2u64 {
            let mut tally = Tally::new(begun);
            tally.succeeded(Duration::from_millis(10 * thread), begun + Duration::from_millis(1500));
            tally.failed(&Failure::Timeout, begun + Duration::from_millis(500 * thread));
            all.merge(tally);
        }
        assert_eq!(all.handshakes(), 2);
        assert_eq!(all.failed_count(), 2);
        assert_eq!(all.failed_by("timeout"), 2);
        let by_second: Vec<_> = all.seconds.iter().map(|second| (second.handshakes, second.failed)).collect();
        assert_eq!(by_second, [(0, 1), (2, 1)]);
        assert_eq!(all.seconds[1].worst, Duration::from_millis(20));
        assert!(all.worst() >= Duration::from_millis(20));
        assert!(all.latency_at(0.5) < Duration::from_millis(11));
    }
}
