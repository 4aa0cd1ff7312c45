use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hsm_loadtest::{Report, RoundReport, human};
use serde::Serialize;

use super::engines::ChosenEngine;

/// What clients saw.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DrillReport {
    /// Whether no client noticed.
    pub(crate) passed: bool,
    pub(super) engine: EngineReport,
    /// Where clients connected, and whom they asked for.
    pub(super) address: String,
    pub(super) site: String,
    pub(super) before: Phase,
    pub(super) during: Phase,
    pub(super) after: Phase,
    pub(super) problems: Vec<String>,
}

/// What was done to whom.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct EngineReport {
    number: u16,
    name: String,
    /// `kill` or `freeze`.
    action: &'static str,
    pid: i32,
    frozen_ms: Option<f64>,
    /// The process in its place, and how long it took to come.
    back_pid: Option<i32>,
    back_after_ms: Option<f64>,
}

/// Handshakes of one part of the drill. Latencies are in milliseconds, from when a handshake was due.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Phase {
    handshakes: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    p50_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
    /// Signatures of each engine, those for other clients included; none if the proxy did not say.
    signed_by: Option<BTreeMap<String, u64>>,
}

impl EngineReport {
    pub(super) fn new(engine: &ChosenEngine, pid: i32, killed: bool, round: &RoundReport) -> Self {
        Self {
            number: engine.number,
            name: engine.name.clone(),
            action: if killed { "kill" } else { "freeze" },
            pid: round.pid.unwrap_or(pid),
            frozen_ms: round.frozen_ms,
            back_pid: round.back_pid,
            back_after_ms: round.back_after_ms,
        }
    }
}

impl Phase {
    pub(super) fn new(report: &Report, signed_by: Option<BTreeMap<String, u64>>) -> Self {
        Self {
            handshakes: report.handshakes,
            failed: report.failed,
            failures: report.failures.clone(),
            p50_ms: report.latency_ms.p50,
            p99_ms: report.latency_ms.p99,
            worst_ms: report.latency_ms.max,
            signed_by,
        }
    }

    fn write(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handshakes, failed, p50_ms, p99_ms, worst_ms, .. } = self;
        write!(f, "{name:<8}{handshakes:>11}{failed:>8}")?;
        write!(f, "{:>10}{:>10}{:>10}", show(*p50_ms), show(*p99_ms), show(*worst_ms))?;
        let signed = self.signed_by.as_ref().map(|engines| {
            let name =
                |name: &str| name.rsplit('/').next().unwrap_or(name).trim_end_matches(".sock").to_owned();
            let engines: Vec<_> =
                engines.iter().map(|(engine, count)| format!("{} {count}", name(engine))).collect();
            engines.join(", ")
        });
        writeln!(f, "  {}", signed.as_deref().unwrap_or("unknown"))
    }
}

impl fmt::Display for DrillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EngineReport { number, name, action, pid, frozen_ms, back_pid, back_after_ms } = &self.engine;
        write!(
            f,
            "engine {number} ({name}, process {pid}) was {}",
            if *action == "kill" { "killed" } else { "frozen" }
        )?;
        if let Some(frozen) = frozen_ms {
            write!(f, " for {}", show(*frozen))?;
        }
        if let (Some(pid), Some(after)) = (back_pid, back_after_ms) {
            write!(f, ", and back after {} as process {pid}", show(*after))?;
        }
        writeln!(f, "\nfull handshakes with {} at {}:\n", self.site, self.address)?;
        writeln!(f, "         handshakes  failed       p50       p99     worst  signed by")?;
        self.before.write("before", f)?;
        self.during.write("during", f)?;
        self.after.write("after", f)?;
        if self.during.signed_by.is_none() {
            writeln!(f, "\nWho signed is not known: [proxy] admin-listen is not set, or does not answer.")?;
        }
        for problem in &self.problems {
            write!(f, "\nFAILED: {problem}")?;
        }
        writeln!(f, "\n{}", if self.passed { "passed: no client noticed" } else { "FAILED" })
    }
}

fn show(ms: f64) -> String {
    human(Duration::from_secs_f64(ms / 1e3))
}
