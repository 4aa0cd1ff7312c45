//! A tally in words and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::load::Load;
use crate::tally::Tally;
use crate::time::{human, millis, thousands};

/// What came of a load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Report {
    /// The server's address.
    pub address: String,
    /// Protocol version, cipher suite and key exchange group of the first handshake; empty if none succeeded.
    pub negotiated: Vec<String>,
    /// Whether each client resumed sessions after its first handshake.
    pub resume: bool,
    /// The signature of one handshake in so many was verified.
    pub verify_one_in: u32,
    /// Handshakes under way at a time, at most.
    pub concurrency: u16,
    /// Seconds from the first beginning to the last end.
    pub seconds: f64,
    /// Handshakes that succeeded.
    pub handshakes: u64,
    /// Those per second.
    pub rate: f64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Of these, the ones where the server resumed a session although a full handshake was wanted.
    pub resumed: u64,
    /// Handshakes broken off by Ctrl-C.
    pub abandoned: u64,
    /// How many failed for what reason.
    pub failures: BTreeMap<String, u64>,
    /// The first failure of each reason in its own words.
    pub examples: BTreeMap<String, String>,
    /// From the beginning of the connection, or from the appointed time in an open loop, to the client's Finished.
    pub latency_ms: Latency,
    /// What ended in each second.
    pub timeline: Vec<Second>,
}

/// Latencies in milliseconds; all zero if no handshake succeeded.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One second of the load.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Second {
    /// Which one, from 0.
    pub second: usize,
    /// Handshakes that succeeded.
    pub handshakes: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// The longest of those that succeeded.
    pub worst_ms: f64,
}

impl Report {
    /// Sums up a load that took `elapsed`.
    pub fn new(load: &Load, elapsed: Duration, tally: &Tally) -> Self {
        let seconds = elapsed.as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // exact up to 2^53 handshakes
        let rate = if seconds > 0.0 { tally.handshakes() as f64 / seconds } else { 0.0 };
        Self {
            address: load.target.address().to_string(),
            negotiated: tally
                .negotiated
                .iter()
                .flat_map(|n| [&n.version, &n.cipher_suite, &n.key_exchange])
                .cloned()
                .collect(),
            resume: load.target.resume,
            verify_one_in: load.target.verify_one_in,
            concurrency: load.concurrency,
            seconds: (seconds * 1e3).round() / 1e3,
            handshakes: tally.handshakes(),
            rate: (rate * 10.0).round() / 10.0,
            failed: tally.failed_count(),
            resumed: tally.failed_by("resumed"),
            abandoned: tally.abandoned(),
            failures: tally.failures.iter().map(|(name, failures)| (name.clone(), failures.count)).collect(),
            examples: tally
                .failures
                .iter()
                .map(|(name, failures)| (name.clone(), failures.example.clone()))
                .collect(),
            latency_ms: Latency::new(tally),
            timeline: tally
                .seconds
                .iter()
                .enumerate()
                .map(|(second, tally)| Second {
                    second,
                    handshakes: tally.handshakes,
                    failed: tally.failed,
                    worst_ms: millis(tally.worst),
                })
                .collect(),
        }
    }
}

impl Latency {
    fn new(tally: &Tally) -> Self {
        let at = |quantile| millis(tally.latency_at(quantile));
        Self {
            mean: (tally.latency.mean()).round() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(tally.worst()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} handshakes in {:.1} s: {:.0}/s, {} failed",
            thousands(self.handshakes),
            if self.resume { "resumed" } else { "full" },
            self.seconds,
            self.rate,
            thousands(self.failed)
        )?;
        if !self.negotiated.is_empty() {
            writeln!(
                f,
                "{} with {}, {} at a time",
                self.negotiated.join(", "),
                self.address,
                self.concurrency
            )?;
        }
        if self.handshakes > 0 {
            let show = |ms: f64| human(Duration::from_secs_f64(ms / 1e3));
            let Latency { p50, p90, p99, p999, max, .. } = self.latency_ms;
            writeln!(
                f,
                "latency: p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
                show(p50),
                show(p90),
                show(p99),
                show(p999),
                show(max)
            )?;
        }
        if self.abandoned > 0 {
            writeln!(f, "{} were broken off", thousands(self.abandoned))?;
        }
        for (reason, count) in &self.failures {
            write!(f, "{:>10}  {reason}", thousands(*count))?;
            match self.examples.get(reason) {
                Some(example) if example != reason => writeln!(f, " ({example})")?,
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }
}
