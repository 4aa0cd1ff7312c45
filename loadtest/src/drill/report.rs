//! What came of a drill, in words and as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::report::Report;
use crate::time::{human, thousands};

/// All rounds of a drill.
#[derive(Clone, Debug, Serialize)]
pub struct DrillReport {
    /// `kill` or `stop`.
    pub action: &'static str,
    /// The engine that was disturbed.
    pub replica: u16,
    /// The longest that a handshake was allowed to take.
    pub max_latency_ms: f64,
    /// The undisturbed round that set the limit, if there was one.
    pub baseline: Option<Report>,
    /// The rounds.
    pub rounds: Vec<RoundReport>,
    /// Whether all went well.
    pub passed: bool,
}

/// One round of a drill.
#[derive(Clone, Debug, Serialize)]
pub struct RoundReport {
    /// Which one, from 1.
    pub round: u32,
    /// When the engine was disturbed, since the load began; none if it wasn't, for the load was broken off.
    pub disturbed_at_ms: Option<f64>,
    /// Its process id then.
    pub pid: Option<i32>,
    /// How long it stood still, if it was frozen.
    pub frozen_ms: Option<f64>,
    /// The process id of the engine that serves afterwards.
    pub back_pid: Option<i32>,
    /// After a kill: how long until a new process accepted connections.
    pub back_after_ms: Option<f64>,
    /// What went wrong; empty if the round was passed.
    pub problems: Vec<String>,
    /// The load.
    pub load: Report,
}

impl DrillReport {
    /// Every handshake of all disturbed rounds.
    pub fn handshakes(&self) -> u64 {
        self.rounds.iter().map(|round| round.load.handshakes).sum()
    }

    fn failed(&self) -> u64 {
        self.rounds.iter().map(|round| round.load.failed).sum()
    }

    fn worst(&self) -> f64 {
        self.rounds.iter().map(|round| round.load.latency_ms.max).fold(0.0, f64::max)
    }
}

impl fmt::Display for RoundReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { handshakes, failed, rate, latency_ms, .. } = &self.load;
        write!(
            f,
            "round {}: {} handshakes at {rate:.0}/s, {failed} failed, worst {}",
            self.round,
            thousands(*handshakes),
            show(latency_ms.max)
        )?;
        if let (Some(at), Some(pid)) = (self.disturbed_at_ms, self.pid) {
            match self.frozen_ms {
                Some(frozen) => write!(f, "; engine {pid} frozen after {} for {}", show(at), show(frozen))?,
                None => write!(f, "; engine {pid} killed after {}", show(at))?,
            }
        }
        if let (Some(after), Some(pid)) = (self.back_after_ms, self.back_pid) {
            write!(f, ", back after {} as {pid}", show(after))?;
        }
        for problem in &self.problems {
            write!(f, "\n  FAILED: {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DrillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds.len();
        writeln!(
            f,
            "{}: {} {} of engine {}, {} handshakes, {} failed, worst {} (limit {})",
            if self.passed { "passed" } else { "FAILED" },
            rounds,
            match (self.action, rounds) {
                ("kill", 1) => "kill",
                ("kill", _) => "kills",
                (_, 1) => "freeze",
                _ => "freezes",
            },
            self.replica,
            thousands(self.handshakes()),
            thousands(self.failed()),
            show(self.worst()),
            show(self.max_latency_ms)
        )
    }
}

fn show(ms: f64) -> String {
    human(Duration::from_secs_f64(ms / 1e3))
}
