//! `cargo xtask bench engine`: signatures through an engine's socket, audit on, side by side with raw ones.
//!
//! Both on the same core, in turns, per CPU-second: the engine's is that of all its processes and threads, the raw one's
//! that of the thread that signs. One at a time, it is time on the clock that counts: with the client on the engine's core,
//! which shows what the engine adds, and on another, where waking an idle core comes on top, twice.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::Bench;
use super::cores::{Cores, cpu_time};
use super::engine_process::EnginePlace;
use super::figures::{median, now, write_json};
use super::machine::{self, Machine};
use crate::error::Error;

/// How a key does, and what is demanded.
struct Demand {
    algorithm: &'static str,
    /// Least share of the raw rate.
    share: f64,
}

const DEMANDS: [Demand; 2] =
    [Demand { algorithm: "p256", share: 0.85 }, Demand { algorithm: "rsa2048", share: 0.97 }];

/// Most microseconds that one signature may take longer than a raw one.
const ADDED: f64 = 25.0;

/// Signatures one at a time, in each round.
const SINGLE: &str = "2000";

#[derive(Debug, Serialize)]
struct Results {
    when: String,
    machine: Machine,
    in_flight: u16,
    rounds: Vec<Round>,
}

#[derive(Debug, Clone, Serialize)]
struct Round {
    algorithm: &'static str,
    raw_per_cpu_second: f64,
    engine_per_cpu_second: f64,
    /// Of the raw rate.
    share: f64,
    /// One at a time, client and engine on one core.
    raw_us: f64,
    engine_us: f64,
    /// Likewise, on two cores.
    apart_raw_us: f64,
    apart_engine_us: f64,
}

pub(super) fn run(bench: &Bench, programs: &Path, root: &Path, cores: &Cores) -> Result<(), Error> {
    let scratch = tempfile::Builder::new().prefix("hsm-bench-").tempdir()?;
    let place = EnginePlace::prepare(scratch.path(), programs, "")?;
    let mut engine = place.start(cores)?;
    place.await_ready(&mut engine)?;
    place.client(cores, "provision", &[])?;

    let (machine, in_flight) = (machine::describe(root), in_flight(bench));
    let mut results = Results { when: now(), machine, in_flight, rounds: Vec::new() };
    for number in 1..=bench.rounds {
        for Demand { algorithm, .. } in DEMANDS {
            let round = measure(bench, &place, cores, engine.pid(), algorithm)?;
            println!(
                "round {number}  {algorithm:<8} {:>6.0} of {:>6.0} per CPU-second: {:.3};  one at a time +{:.1} µs, apart +{:.1} µs",
                round.engine_per_cpu_second,
                round.raw_per_cpu_second,
                round.share,
                round.engine_us - round.raw_us,
                round.apart_engine_us - round.apart_raw_us
            );
            results.rounds.push(round);
        }
    }
    drop(engine);
    print!("\n{}", table(&results.rounds));
    write_json(&bench.reports(root), "engine", &results)
}

fn measure(
    bench: &Bench,
    place: &EnginePlace,
    cores: &Cores,
    engine: rustix::process::Pid,
    algorithm: &'static str,
) -> Result<Round, Error> {
    let (seconds, in_flight) = (bench.seconds.to_string(), in_flight(bench).to_string());
    let select = ["--algorithm", algorithm];
    let raw = place.raw(cores, &[&select[..], &["--seconds", &seconds]].concat())?;
    let raw = number(&raw, "signatures")? / number(&raw, "cpu_seconds")?;
    let before = cpu_time(engine)?;
    let extent = ["--seconds", &seconds, "--in-flight", &in_flight];
    let load = place.client(cores, "load", &[&select[..], &extent].concat())?;
    let cpu = cpu_time(engine)?.saturating_sub(before);
    let by_engine = number(&load, "signatures")? / cpu.as_secs_f64();
    let count = [&select[..], &["--count", SINGLE]].concat();
    let single = place.neighbour(cores, "latency", &count)?;
    let apart = place.client(cores, "latency", &count)?;
    Ok(Round {
        algorithm,
        raw_per_cpu_second: raw,
        engine_per_cpu_second: by_engine,
        share: by_engine / raw,
        raw_us: number(&single, "raw_us")?,
        engine_us: number(&single, "engine_us")?,
        apart_raw_us: number(&apart, "raw_us")?,
        apart_engine_us: number(&apart, "engine_us")?,
    })
}

fn in_flight(bench: &Bench) -> u16 {
    bench.concurrency.unwrap_or(64)
}

fn number(report: &Value, name: &str) -> Result<f64, Error> {
    report[name].as_f64().ok_or_else(|| Error::LoadReport(format!("no {name} in it")))
}

fn table(rounds: &[Round]) -> String {
    let head = "| key | raw, per CPU-second | engine | share, median (least to most) | goal | added to one, same core | goal | two cores |\n";
    let mut text = format!("{head}|{}\n", "---|".repeat(8));
    for Demand { algorithm, share: goal } in DEMANDS {
        let of = |figure: fn(&Round) -> f64| {
            rounds.iter().filter(|round| round.algorithm == algorithm).map(figure).collect::<Vec<_>>()
        };
        let shares = of(|round| round.share);
        let least = shares.iter().copied().fold(f64::MAX, f64::min);
        let most = shares.iter().copied().fold(f64::MIN, f64::max);
        let (share, added) = (median(shares), median(of(|round| round.engine_us - round.raw_us)));
        let verdict = |met| if met { "met" } else { "**not met**" };
        text += &format!(
            "| {algorithm} | {:.0} | {:.0} | {share:.3} ({least:.3} to {most:.3}) | {goal}: {} | {added:.1} µs | {ADDED} µs: {} | {:.1} µs |\n",
            median(of(|round| round.raw_per_cpu_second)),
            median(of(|round| round.engine_per_cpu_second)),
            verdict(share >= goal),
            verdict(added <= ADDED),
            median(of(|round| round.apart_engine_us - round.apart_raw_us)),
        );
    }
    text
}
