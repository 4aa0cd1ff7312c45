use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::spread::{Spread, Spreads};

/// Upper ends of the buckets, in microseconds; beyond the last one is one more.
const ENDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000,
];

/// How long something took, as Prometheus counts it.
#[derive(Default)]
pub(crate) struct Histogram {
    /// Not cumulative, other than on the page.
    buckets: [AtomicU64; ENDS.len() + 1],
    microseconds: AtomicU64,
    /// The same, finer.
    spread: Spread,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = ENDS.partition_point(|&end| end < microseconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(microseconds, Relaxed);
        self.spread.observe(microseconds);
    }

    /// For quantiles of what happens from now on, or happened since another moment.
    pub(crate) fn spreads(&self) -> Spreads {
        self.spread.until_now()
    }

    /// `label` is a whole one, like `stage="queue"`.
    pub(super) fn write(&self, name: &str, label: &str, out: &mut String) -> fmt::Result {
        let mut below = 0;
        for (bucket, &end) in self.buckets.iter().zip(&ENDS) {
            below += bucket.load(Relaxed);
            let seconds = Duration::from_micros(end).as_secs_f64();
            writeln!(out, "{name}_bucket{{{label},le=\"{seconds}\"}} {below}")?;
        }
        // A bucket that was added to meanwhile must not make the sum less than a part of it.
        let all = below + self.buckets[ENDS.len()].load(Relaxed);
        let sum = Duration::from_micros(self.microseconds.load(Relaxed)).as_secs_f64();
        writeln!(out, "{name}_bucket{{{label},le=\"+Inf\"}} {all}")?;
        writeln!(out, "{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {all}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_its_bucket_and_in_all_above() {
        let histogram = Histogram::default();
        for microseconds in [0, 100, 101, 7_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let mut text = String::new();
        histogram.write("x_seconds", "a=\"b\"", &mut text).unwrap();
        for line in [
            "x_seconds_bucket{a=\"b\",le=\"0.0001\"} 2\n",
            "x_seconds_bucket{a=\"b\",le=\"0.00025\"} 3\n",
            "x_seconds_bucket{a=\"b\",le=\"5\"} 3\n",
            "x_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\n",
            "x_seconds_sum{a=\"b\"} 7.000201\n",
            "x_seconds_count{a=\"b\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
