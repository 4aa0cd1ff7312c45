//! `cargo xtask bench abuse`: one attacker by HTTP/2, and what a bystander and the proxy's memory notice.
//!
//! Rounds with and without the attack take turns, and the bystander's 99th percentile of all the calm ones is what it is
//! used to. The attacker connects again whenever he is thrown out, so each attack is a flood of handshakes, too; that
//! alone is measured as `connect`. Each kind comes from an address of its own, since the proxy lets in slowly who flooded before.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::Pid;
use serde::Serialize;
use serde_json::Value;

use super::Bench;
use super::cores::Cores;
use super::figures::{median, now, write_json};
use super::machine::{self, Machine};
use super::peers::{Peer, Stage};
use super::scale::resident_kib;
use super::visitors::Visitors;
use crate::error::Error;

const KINDS: [&str; 8] = [
    "rapid-reset",
    "continuation",
    "empty-data",
    "made-you-reset",
    "ping",
    "settings",
    "window-update",
    "connect",
];

/// How much the proxy may grow while it is attacked.
const GROWTH_KIB: u64 = 64 * 1024;

/// How much longer a bystander's 99th percentile may be.
const SLOWER: f64 = 2.0;

#[derive(Debug, Serialize)]
struct Results {
    when: String,
    machine: Machine,
    rounds: u16,
    seconds: u16,
    attacks: Vec<Attack>,
}

#[derive(Debug, Serialize)]
struct Attack {
    kind: &'static str,
    /// Connections of the attacker, in all rounds.
    connections: u64,
    /// What he sent, in frames.
    bytes: u64,
    calm_p99_ms: Vec<f64>,
    attacked_p99_ms: Vec<f64>,
    /// Requests of the bystander that failed.
    failed: u64,
    /// Resident memory of the proxy before the first round, and the most during an attack.
    before_kib: u64,
    most_kib: u64,
}

pub(super) fn run(bench: &Bench, programs: &Path, root: &Path, cores: &Cores) -> Result<(), Error> {
    let stage = Stage::set(programs, cores)?;
    let setting = stage.setting();
    let mut proxy = Peer::ours(&setting)?;
    let visitors = Visitors { programs, cores };
    let seconds = bench.seconds.to_string();
    // Caches, allocators and connections to engines are warm then.
    bystander(&visitors, &proxy, "3")?;
    let mut results = Results {
        when: now(),
        machine: machine::describe(root),
        rounds: bench.rounds,
        seconds: bench.seconds,
        attacks: Vec::new(),
    };
    for (index, kind) in KINDS.into_iter().enumerate() {
        let from = format!("127.0.1.{}", index + 1);
        let before_kib = resident_kib(proxy.pid()?)?;
        let mut attack = Attack {
            kind,
            connections: 0,
            bytes: 0,
            calm_p99_ms: Vec::new(),
            attacked_p99_ms: Vec::new(),
            failed: 0,
            before_kib,
            most_kib: before_kib,
        };
        for _ in 0..bench.rounds {
            let calm = bystander(&visitors, &proxy, &seconds)?;
            attack.calm_p99_ms.push(number(&calm, "p99-ms")?);
            let arguments = ["--kind", kind, "--from", &from, "--seconds", &seconds];
            let mut attacker = visitors.start_client(&proxy, "flood", &arguments)?;
            let (attacked, most) = watched(proxy.pid()?, || bystander(&visitors, &proxy, &seconds))?;
            attack.attacked_p99_ms.push(number(&attacked, "p99-ms")?);
            attack.failed += count(&calm, "failed")? + count(&attacked, "failed")?;
            attack.most_kib = attack.most_kib.max(most);
            let report = attacker.report()?;
            attack.connections += count(&report, "connections")?;
            attack.bytes += count(&report, "bytes")?;
            proxy.check()?;
        }
        println!("{}", attack.row());
        results.attacks.push(attack);
    }
    println!("\n{HEADING}");
    results.attacks.iter().for_each(|attack| println!("{}", attack.row()));
    let directory = bench.out.clone().unwrap_or_else(|| root.join("loadtest/results"));
    let name = format!("abuse-{}", results.when.replace([':', '-'], ""));
    write_json(&directory, &name, &results)
}

const HEADING: &str = "| attack | connections | frames | resident before, most | growth | p99 calm | p99 attacked | ratio | failed |\n\
                       |---|---|---|---|---|---|---|---|---|";

impl Attack {
    fn row(&self) -> String {
        let (calm, attacked) = (median(self.calm_p99_ms.clone()), median(self.attacked_p99_ms.clone()));
        let (growth, ratio) = (self.most_kib.saturating_sub(self.before_kib), attacked / calm);
        let verdict = |met: bool| if met { "met" } else { "**not met**" };
        format!(
            "| {} | {} | {} KB | {}, {} KiB | {growth} KiB; goal 64 MiB: {} | {calm:.2} ms | {attacked:.2} ms | {ratio:.2}; goal 2: {} | {} |",
            self.kind,
            self.connections,
            self.bytes / 1000,
            self.before_kib,
            self.most_kib,
            verdict(growth < GROWTH_KIB),
            verdict(ratio < SLOWER),
            self.failed,
        )
    }
}

fn bystander(visitors: &Visitors<'_>, proxy: &Peer, seconds: &str) -> Result<Value, Error> {
    visitors.client(proxy, "bystander", &["--seconds", seconds])
}

/// What `work` gives, and the most memory that the process had meanwhile.
fn watched<T>(pid: Pid, work: impl FnOnce() -> Result<T, Error>) -> Result<(T, u64), Error> {
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                most.fetch_max(resident_kib(pid).unwrap_or(0), Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let result = work();
        done.store(true, Relaxed);
        result
    });
    Ok((result?, most.into_inner()))
}

fn count(report: &Value, name: &str) -> Result<u64, Error> {
    report[name].as_u64().ok_or_else(|| Error::LoadReport(format!("no {name} in {report}")))
}

fn number(report: &Value, name: &str) -> Result<f64, Error> {
    report[name].as_f64().ok_or_else(|| Error::LoadReport(format!("no {name} in {report}")))
}
