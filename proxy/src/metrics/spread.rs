use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Parts of each doubling.
const PARTS: u32 = 8;

/// From 1 µs to about a minute, and one for all beyond.
const BUCKETS: usize = 26 * PARTS as usize;

/// How long something took, finely enough for quantiles: a value is known to an eighth.
pub(crate) struct Spread([AtomicU64; BUCKETS]);

/// What was counted until some moment.
#[derive(Clone)]
pub(crate) struct Spreads([u64; BUCKETS]);

impl Default for Spread {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Spread {
    pub(super) fn observe(&self, microseconds: u64) {
        self.0[bucket(microseconds)].fetch_add(1, Relaxed);
    }

    pub(crate) fn until_now(&self) -> Spreads {
        Spreads(std::array::from_fn(|at| self.0[at].load(Relaxed)))
    }
}

impl Spreads {
    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(before.0[at])))
    }

    /// The time that `per_mille` of them did not exceed; none without any.
    pub(crate) fn quantile(&self, per_mille: u64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        // The last one of these, counted from 1.
        let wanted = (all * per_mille).div_ceil(1000).max(1);
        let mut below = 0;
        self.0
            .iter()
            .position(|&count| {
                below += count;
                below >= wanted
            })
            .map(middle)
    }
}

/// Floating-point arithmetic on the bits: exponent and the three leading bits of the mantissa.
fn bucket(microseconds: u64) -> usize {
    let microseconds = microseconds.max(1);
    let exponent = microseconds.ilog2();
    let fraction = match exponent {
        0..=2 => (microseconds << (3 - exponent)) & 7,
        _ => (microseconds >> (exponent - 3)) & 7,
    };
    ((exponent * PARTS) as usize + fraction as usize).min(BUCKETS - 1)
}

fn middle(bucket: usize) -> Duration {
    let (exponent, fraction) = (bucket as u32 / PARTS, u64::from(bucket as u32 % PARTS));
    // Of the interval from (8 + fraction) / 8 to (9 + fraction) / 8, times the power of two, in microseconds.
    Duration::from_nanos((((17 + 2 * fraction) * 1000) << exponent) / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_an_eighth_and_count_from_a_moment() {
        let spread = Spread::default();
        assert_eq!(spread.until_now().quantile(500), None);
        spread.observe(5);
        let before = spread.until_now();
        for microseconds in 1..=10_000 {
            spread.observe(microseconds);
        }
        let spreads = spread.until_now().since(&before);
        for (per_mille, microseconds) in [(10, 100.0), (500, 5_000.0), (990, 9_900.0), (1000, 10_000.0)] {
            let found = spreads.quantile(per_mille).unwrap().as_secs_f64() * 1e6;
            assert!((found / microseconds - 1.0).abs() <= 0.125, "{per_mille}: {found}");
        }
    }

    #[test]
    fn every_time_has_a_bucket_that_its_middle_is_in() {
        for microseconds in [0, 1, 2, 3, 7, 8, 9, 15, 16, 1_000_000, u64::MAX] {
            assert!(bucket(microseconds) < BUCKETS, "{microseconds}");
        }
        for at in 8 * 3..BUCKETS - 1 {
            let micros = u64::try_from(middle(at).as_nanos().div_ceil(1000)).unwrap();
            assert!(bucket(micros) == at || bucket(micros) == at + 1, "{at}: {micros}");
        }
    }
}
