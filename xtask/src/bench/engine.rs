//! `cargo xtask bench engine`: signatures through an engine's socket, audit on, side by side with raw ones.
//!
//! Both on the same core, per CPU-second: the engine's is that of all its processes and threads, the raw one's that of the
//! thread that signs. Turns are short, since what a core of a shared machine does in one second and in the next differs by a
//! fifth. One at a time, it is time on the clock that counts: with the client on the engine's core,
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
use crate::process::Companion;

/// How a key does, and what is demanded.
struct Demand {
    algorithm: &'static str,
    /// Least share of the raw rate.
    share: f64,
}

const DEMANDS: [Demand; 2] =
    [Demand { algorithm: "p256", share: 0.9 }, Demand { algorithm: "rsa2048", share: 0.98 }];

/// Most microseconds that one signature may take longer than a raw one.
const ADDED: f64 = 25.0;

/// What two engines on two cores must sign, of what one does.
const TWO_ENGINES: f64 = 1.8;

/// How long each of the two signs before it is the other's turn. The engine's turn ends when nothing is in flight any more.
const TURN_MILLIS: u64 = 250;

/// Signatures one at a time, in each round.
const SINGLE: &str = "2000";

#[derive(Debug, Serialize)]
struct Results {
    when: String,
    machine: Machine,
    in_flight: u16,
    rounds: Vec<Round>,
    /// RSA-2048 signatures of two engines on a core each, divided by those of one of them alone in the turn before; a median for each
    /// round.
    two_engines: Vec<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct Round {
    algorithm: &'static str,
    raw_per_cpu_second: f64,
    engine_per_cpu_second: f64,
    /// Of the raw rate of the turn before; the median.
    share: f64,
    /// One at a time, client and engine on one core.
    one_core: OneAtATime,
    /// Likewise, each on its own.
    two_cores: OneAtATime,
}

/// Medians in microseconds.
#[derive(Debug, Clone, Serialize)]
struct OneAtATime {
    raw: f64,
    engine: f64,
    /// By which the engine's took longer than the raw one that followed it.
    added: f64,
}

pub(super) fn run(bench: &Bench, programs: &Path, root: &Path, cores: &Cores) -> Result<(), Error> {
    let scratch = tempfile::Builder::new().prefix("hsm-bench-").tempdir()?;
    let place = EnginePlace::prepare(scratch.path(), programs, "")?;
    let mut engine = place.start(cores)?;
    place.await_ready(&mut engine)?;
    place.client(cores, "provision", &[])?;

    let (machine, in_flight) = (machine::describe(root), in_flight(bench));
    let mut results =
        Results { when: now(), machine, in_flight, rounds: Vec::new(), two_engines: Vec::new() };
    for number in 1..=bench.rounds {
        for Demand { algorithm, .. } in DEMANDS {
            let round = measure(bench, &place, cores, engine.pid(), algorithm)?;
            println!(
                "round {number}  {algorithm:<8} {:>6.0} of {:>6.0} per CPU-second: {:.3};  one at a time +{:.1} µs, apart +{:.1} µs",
                round.engine_per_cpu_second,
                round.raw_per_cpu_second,
                round.share,
                round.one_core.added,
                round.two_cores.added
            );
            results.rounds.push(round);
        }
    }
    drop(engine);
    results.two_engines = two_engines(bench, programs, cores)?;
    print!("\n{}", table(&results.rounds));
    println!("\n{}", two_engines_line(&results.two_engines));
    write_json(&bench.reports(root), "engine", &results)
}

fn measure(
    bench: &Bench,
    place: &EnginePlace,
    cores: &Cores,
    engine: rustix::process::Pid,
    algorithm: &'static str,
) -> Result<Round, Error> {
    let in_flight = in_flight(bench).to_string();
    let select = ["--algorithm", algorithm];
    let mut raw = place.raw_in_turns(cores, &select)?;
    let mut load =
        place.client_in_turns(cores, "load", &[&select[..], &["--in-flight", &in_flight]].concat())?;
    let (mut raw_rates, mut engine_rates, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    // The first turn of each only warms up.
    for turn in 0..=u64::from(bench.seconds) * 1000 / TURN_MILLIS {
        let told = take_turn(&mut raw)?;
        let raw_rate = number_of(&told, "signatures")? / number_of(&told, "cpu_seconds")?;
        let before = cpu_time(engine)?;
        let told = take_turn(&mut load)?;
        let cpu = cpu_time(engine)?.saturating_sub(before);
        let engine_rate = number_of(&told, "signatures")? / cpu.as_secs_f64();
        if turn > 0 {
            raw_rates.push(raw_rate);
            engine_rates.push(engine_rate);
            shares.push(engine_rate / raw_rate);
        }
    }
    drop((raw, load));
    let count = [&select[..], &["--count", SINGLE]].concat();
    let one_core = one_at_a_time(&place.neighbour(cores, "latency", &count)?)?;
    let two_cores = one_at_a_time(&place.client(cores, "latency", &count)?)?;
    Ok(Round {
        algorithm,
        raw_per_cpu_second: median(raw_rates),
        engine_per_cpu_second: median(engine_rates),
        share: median(shares),
        one_core,
        two_cores,
    })
}

/// Each client is on the core of the engine that it does not speak to.
fn two_engines(bench: &Bench, programs: &Path, cores: &Cores) -> Result<Vec<f64>, Error> {
    let scratch = tempfile::Builder::new().prefix("hsm-bench-").tempdir()?;
    let place = EnginePlace::prepare_replicas(2, scratch.path(), programs, "")?;
    let mut engines = place.start(cores)?;
    place.await_ready(&mut engines)?;
    place.client(cores, "provision", &[])?;
    cores.move_to_client(place.replica(1)?)?;
    let in_flight = in_flight(bench).to_string();
    let arguments = ["--algorithm", "rsa2048", "--in-flight", &in_flight];
    let mut first = place.client_in_turns(cores, "load", &arguments)?;
    // It has its session, and the other may use the same.
    take_turn(&mut first)?;
    let mut second = place.neighbour_in_turns(cores, "load", &arguments)?;
    take_turn(&mut second)?;
    let mut rounds = Vec::new();
    for number in 1..=bench.rounds {
        let mut ratios = Vec::new();
        for _ in 0..u64::from(bench.seconds) * 1000 / TURN_MILLIS {
            let alone = number_of(&take_turn(&mut first)?, "signatures")?;
            [&mut first, &mut second]
                .into_iter()
                .try_for_each(|signer| signer.tell(&TURN_MILLIS.to_string()))?;
            let both =
                number_of(&first.report()?, "signatures")? + number_of(&second.report()?, "signatures")?;
            ratios.push(both / alone);
        }
        let ratio = median(ratios);
        println!("round {number}  rsa2048  two engines on two cores: {ratio:.2} of one");
        rounds.push(ratio);
    }
    Ok(rounds)
}

fn two_engines_line(rounds: &[f64]) -> String {
    let least = rounds.iter().copied().fold(f64::MAX, f64::min);
    let most = rounds.iter().copied().fold(f64::MIN, f64::max);
    let ratio = median(rounds.to_vec());
    let verdict = if ratio >= TWO_ENGINES { "is met" } else { "is NOT met" };
    format!(
        "two engines on two cores, RSA-2048: {ratio:.2} of one ({least:.2} to {most:.2}); the goal of {TWO_ENGINES} {verdict}"
    )
}

fn take_turn(signer: &mut Companion) -> Result<Value, Error> {
    signer.tell(&TURN_MILLIS.to_string())?;
    signer.report()
}

fn one_at_a_time(report: &Value) -> Result<OneAtATime, Error> {
    Ok(OneAtATime {
        raw: number_of(report, "raw_us")?,
        engine: number_of(report, "engine_us")?,
        added: number_of(report, "added_us")?,
    })
}

fn in_flight(bench: &Bench) -> u16 {
    bench.concurrency.unwrap_or(64)
}

fn number_of(report: &Value, name: &str) -> Result<f64, Error> {
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
        let (share, added) = (median(shares), median(of(|round| round.one_core.added)));
        let verdict = |met| if met { "met" } else { "**not met**" };
        text += &format!(
            "| {algorithm} | {:.0} | {:.0} | {share:.3} ({least:.3} to {most:.3}) | {goal}: {} | {added:.1} µs | {ADDED} µs: {} | {:.1} µs |\n",
            median(of(|round| round.raw_per_cpu_second)),
            median(of(|round| round.engine_per_cpu_second)),
            verdict(share >= goal),
            verdict(added <= ADDED),
            median(of(|round| round.two_cores.added)),
        );
    }
    text
}
