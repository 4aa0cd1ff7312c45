//! When a late answer is worth a second request, and whether it can be afforded.

use std::time::Duration;

use super::options::Hedging;

/// Buckets of the histogram: four for each doubling, from 1 µs to about 18 minutes.
const BUCKETS: usize = 120;

/// Samples after which all counts are halved, so that the past fades.
const HALVE_AFTER: u32 = 1024;

/// Samples before the estimate means anything.
const ENOUGH: u32 = 64;

/// Samples between two computations of the quantile.
const RECOMPUTE_AFTER: u32 = 32;

/// The delay while nothing is known.
const UNKNOWN: Duration = Duration::from_millis(20);

/// Recent latencies of quick operations.
pub(super) struct Latency {
    counts: [u32; BUCKETS],
    total: u32,
    since: u32,
    p99: Option<Duration>,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self { counts: [0; BUCKETS], total: 0, since: 0, p99: None }
    }

    /// Notes a latency.
    pub(super) fn add(&mut self, latency: Duration) {
        self.counts[bucket(latency)] += 1;
        self.total += 1;
        self.since += 1;
        if self.since >= RECOMPUTE_AFTER && self.total >= ENOUGH {
            self.since = 0;
            self.p99 = Some(self.quantile());
        }
        if self.total >= HALVE_AFTER {
            self.total = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.total += *count;
            }
        }
    }

    /// The 99th percentile, once there are enough samples.
    pub(super) fn p99(&self) -> Option<Duration> {
        self.p99
    }

    /// How late an answer must be to be hedged.
    pub(super) fn hedge_delay(&self, hedging: &Hedging) -> Duration {
        let delay = self.p99.map_or(UNKNOWN, |p99| p99 * 2);
        delay.min(hedging.ceiling).max(hedging.floor)
    }

    fn quantile(&self) -> Duration {
        let mut above = self.total / 100;
        for (at, &count) in self.counts.iter().enumerate().rev() {
            if count > above {
                return upper_bound(at);
            }
            above -= count;
        }
        Duration::ZERO
    }
}

/// Floating-point arithmetic on the bits: exponent and the two leading bits of the mantissa.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    let exponent = micros.ilog2();
    let fraction =
        if exponent >= 2 { (micros >> (exponent - 2)) & 3 } else { (micros << (2 - exponent)) & 3 };
    (exponent as usize * 4 + fraction as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let (exponent, fraction) = (bucket / 4, bucket as u64 % 4);
    Duration::from_nanos((((5 + fraction) * 1000) << exponent) / 4)
}

/// What is left to be spent on hedges: each call brings a part of one, up to the burst.
pub(super) struct Budget {
    /// In hundredths of a hedge.
    left: u32,
    most: u32,
    income: u32,
}

/// One hedge, in the budget's unit.
const HEDGE: u32 = 100;

impl Budget {
    pub(super) fn new(hedging: &Hedging) -> Self {
        let most = u32::from(hedging.burst) * HEDGE;
        Self { left: most, most, income: u32::from(hedging.percent) }
    }

    /// A call began.
    pub(super) fn earn(&mut self) {
        self.left = (self.left + self.income).min(self.most);
    }

    /// Whether a hedge can be afforded; then it is paid.
    pub(super) fn spend(&mut self) -> bool {
        match self.left.checked_sub(HEDGE) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_bound_their_content_within_a_quarter() {
        for micros in (1..5_000).chain([123_456, 9_999_999]) {
            let latency = Duration::from_micros(micros);
            let bound = upper_bound(bucket(latency));
            assert!(
                bound > latency && bound <= latency * 5 / 4 + Duration::from_micros(1),
                "{latency:?} {bound:?}"
            );
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_percentile_follows_the_recent_latencies() {
        let hedging = Hedging::default();
        let mut latency = Latency::new();
        assert_eq!(latency.hedge_delay(&hedging), UNKNOWN);
        for n in 0..2_000 {
            latency.add(Duration::from_micros(if n % 50 == 0 { 3_000 } else { 100 }));
        }
        let p99 = latency.p99().unwrap();
        assert!((3_000..=3_750).contains(&p99.as_micros()), "one in fifty is slow: {p99:?}");
        for _ in 0..20_000 {
            latency.add(Duration::from_micros(100));
        }
        assert!(latency.p99().unwrap() < Duration::from_micros(200), "the past fades");
        assert_eq!(latency.hedge_delay(&hedging), hedging.floor);
        for _ in 0..5_000 {
            latency.add(Duration::from_secs(2));
        }
        assert_eq!(latency.hedge_delay(&hedging), hedging.ceiling);
    }

    #[test]
    fn the_budget_allows_the_burst_and_then_its_share() {
        let mut budget = Budget::new(&Hedging { burst: 4, percent: 10, ..Hedging::default() });
        assert_eq!((0..10).filter(|_| budget.spend()).count(), 4);
        let hedged = (0..1_000)
            .filter(|_| {
                budget.earn();
                budget.spend()
            })
            .count();
        assert_eq!(hedged, 100);
    }
}
