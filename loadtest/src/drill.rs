//! Kills or freezes an engine in the middle of a load, and judges what came of it.

mod replica;
mod report;

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::attend::{Interrupt, attend};
use crate::load::{Load, LoadError, Watch};
use crate::report::Report;
use crate::schedule::Extent;
use crate::time::{human, millis};

pub use replica::{EngineProcess, Replica, ReplicaError};
pub use report::{DrillReport, RoundReport};

/// What is done to whom, when, under which load, and what is good enough.
#[derive(Clone)]
pub struct Drill {
    /// The engine that suffers.
    pub replica: Replica,
    /// Its number, for the report.
    pub number: u16,
    /// What is done to it.
    pub disturbance: Disturbance,
    /// When.
    pub at: Moment,
    /// The load of each round.
    pub load: Load,
    /// How many rounds.
    pub rounds: u32,
    /// Between two rounds.
    pub pause: Duration,
    /// The longest that a handshake may take.
    pub max_latency: Duration,
    /// Whether an undisturbed round comes first; ten times its p99 is then allowed, if that is more.
    pub baseline: bool,
    /// The longest that a killed engine may take to serve again.
    pub max_restart: Duration,
}

/// What is done to an engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disturbance {
    /// SIGKILL. The supervisor must start another.
    Kill,
    /// SIGSTOP, and SIGCONT after so long, or when the load ends.
    Stop(Duration),
}

/// A point in a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// So long after its beginning.
    After(Duration),
    /// When so many handshakes have ended.
    Handshakes(u64),
}

/// Why a drill can't be carried out. That it went badly is no error, but in the report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrillError {
    /// The engine can't be disturbed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The load can't be made.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The load was over before its engine was to be disturbed.
    #[error("the load ended after {}, before the engine was to be disturbed: ask for more, or for an earlier --at", human(*.0))]
    EndedEarly(Duration),
    /// The undisturbed round failed: there is nothing to compare with.
    #[error("{0} handshakes failed in the undisturbed round, {1}; put that right first")]
    Baseline(u64, String),
    /// Ctrl-C during the undisturbed round.
    #[error("broken off before the first round")]
    Interrupted,
    /// The system gives no signals.
    #[error("signals can't be caught: {0}")]
    Signals(#[from] std::io::Error),
}

/// What happened to the engine in a round.
#[derive(Default)]
struct Disturbed {
    at: Option<Duration>,
    pid: Option<i32>,
    frozen: Option<Duration>,
    back: Option<(i32, Duration)>,
}

impl Drill {
    /// Carries it out, inside a tokio runtime with time and I/O; `tell` hears of each round when it is over.
    /// Ctrl-C and SIGTERM end it early; a frozen engine is continued in any case.
    ///
    /// # Errors
    ///
    /// If it can't be carried out.
    pub async fn run(&self, mut tell: impl FnMut(&RoundReport)) -> Result<DrillReport, DrillError> {
        let mut interrupt = Interrupt::catch()?;
        // Refuse at once rather than after the undisturbed round.
        self.replica.process()?;
        let mut max_latency = self.max_latency;
        let baseline = if self.baseline { Some(self.undisturbed(&mut interrupt).await?) } else { None };
        if let Some(report) = &baseline {
            max_latency = max_latency.max(Duration::from_secs_f64(report.latency_ms.p99 * 10.0 / 1e3));
        }
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            if number > 1 {
                tokio::time::sleep(self.pause).await;
            }
            let (round, interrupted) = self.round(number, max_latency, &mut interrupt).await?;
            tell(&round);
            rounds.push(round);
            if interrupted {
                break;
            }
        }
        Ok(DrillReport {
            action: match self.disturbance {
                Disturbance::Kill => "kill",
                Disturbance::Stop(_) => "stop",
            },
            replica: self.number,
            max_latency_ms: millis(max_latency),
            baseline,
            passed: rounds.iter().all(|round| round.problems.is_empty()),
            rounds,
        })
    }

    async fn undisturbed(&self, interrupt: &mut Interrupt) -> Result<Report, DrillError> {
        let mut running = self.load.clone().start()?;
        let begun = Instant::now();
        if attend(&mut running, interrupt, "undisturbed: ".to_owned()).await? {
            return Err(DrillError::Interrupted);
        }
        let report = self.report(begun.elapsed(), &running);
        if report.failed > 0 || report.handshakes == 0 {
            let reasons: Vec<_> = report.examples.values().cloned().collect();
            return Err(DrillError::Baseline(report.failed, reasons.join("; ")));
        }
        Ok(report)
    }

    async fn round(
        &self,
        round: u32,
        max_latency: Duration,
        interrupt: &mut Interrupt,
    ) -> Result<(RoundReport, bool), DrillError> {
        let mut running = self.load.clone().start()?;
        let load = running.watch();
        let (over, mut ended) = watch::channel(false);
        let attended = async {
            let interrupted = attend(&mut running, interrupt, format!("round {round}: ")).await;
            over.send_replace(true);
            interrupted.map(|interrupted| (interrupted, load.begun().elapsed()))
        };
        let (attended, disturbed) = tokio::join!(attended, self.disturb(&load, &mut ended));
        let (interrupted, elapsed) = attended?;
        let disturbed = match disturbed {
            Err(DrillError::EndedEarly(_)) if interrupted => Disturbed::default(),
            other => other?,
        };
        let report = self.report(elapsed, &running);
        let report = RoundReport {
            round,
            disturbed_at_ms: disturbed.at.map(millis),
            pid: disturbed.pid,
            frozen_ms: disturbed.frozen.map(millis),
            back_pid: disturbed.back.map(|(pid, _)| pid),
            back_after_ms: disturbed.back.map(|(_, after)| millis(after)),
            problems: self.problems(&report, &disturbed, interrupted, max_latency),
            load: report,
        };
        Ok((report, interrupted))
    }

    /// Waits for the moment, disturbs the engine, and sees to it that it comes back.
    async fn disturb(
        &self,
        load: &Watch,
        ended: &mut watch::Receiver<bool>,
    ) -> Result<Disturbed, DrillError> {
        tokio::select! {
            biased;
            () = self.at.reached(load) => {}
            _ = ended.wait_for(|ended| *ended) => return Err(DrillError::EndedEarly(load.begun().elapsed())),
        }
        let process = self.replica.process()?;
        let pid = process.pid();
        let disturbed_at = Instant::now();
        let mut disturbed =
            Disturbed { at: Some(load.begun().elapsed()), pid: Some(pid), ..Disturbed::default() };
        match self.disturbance {
            Disturbance::Kill => {
                process.kill()?;
                let back = self.replica.back(pid, disturbed_at + self.max_restart).await;
                disturbed.back = back.map(|pid| (pid, disturbed_at.elapsed()));
            }
            Disturbance::Stop(frozen) => {
                let engine = process.freeze()?;
                let _whichever_is_first = tokio::time::timeout(frozen, ended.wait_for(|ended| *ended)).await;
                drop(engine);
                disturbed.frozen = Some(disturbed_at.elapsed());
            }
        }
        Ok(disturbed)
    }

    fn problems(
        &self,
        report: &Report,
        disturbed: &Disturbed,
        interrupted: bool,
        max_latency: Duration,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if interrupted {
            problems.push("broken off".to_owned());
        }
        if report.failed > 0 {
            let reasons: Vec<_> =
                report.failures.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            problems.push(format!("{} handshakes failed: {}", report.failed, reasons.join(", ")));
        }
        if report.handshakes == 0 {
            problems.push("no handshake succeeded".to_owned());
        }
        if report.latency_ms.max > millis(max_latency) {
            let worst = Duration::from_secs_f64(report.latency_ms.max / 1e3);
            problems.push(format!(
                "the worst handshake took {}, the limit is {}",
                human(worst),
                human(max_latency)
            ));
        }
        let killed = self.disturbance == Disturbance::Kill && disturbed.at.is_some();
        if killed && disturbed.back.is_none() {
            problems.push(format!("the engine was not back within {}", human(self.max_restart)));
        }
        problems
    }

    fn report(&self, elapsed: Duration, running: &crate::load::Running) -> Report {
        Report::new(&self.load, elapsed, running.tally())
    }
}

impl Moment {
    async fn reached(self, load: &Watch) {
        match self {
            Self::After(time) => tokio::time::sleep_until((load.begun() + time).into()).await,
            Self::Handshakes(count) => {
                let mut ticks = tokio::time::interval(Duration::from_millis(1));
                loop {
                    ticks.tick().await;
                    let (handshakes, failed) = load.so_far();
                    if handshakes + failed >= count {
                        return;
                    }
                }
            }
        }
    }

    /// The middle of a load.
    pub fn middle_of(extent: Extent) -> Self {
        match extent {
            Extent::Count(count) => Self::Handshakes(count / 2),
            Extent::Duration(duration) => Self::After(duration / 2),
        }
    }
}

#[cfg(test)]
mod tests;
