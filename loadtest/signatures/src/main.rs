//! Asks an engine for signatures, or makes the same ones itself: what `cargo xtask bench engine` compares. Never shipped.
//!
//! Every command prints one line of JSON, or one for each of its turns. Where it runs, whose turn it is and whose CPU time is
//! taken is up to xtask.

mod cluster;
mod pipeline;
mod raw;
mod rotation;
mod sites;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use pipeline::Pipeline;
use raw::RawKey;
use sites::Sites;

/// Signatures of an engine, and raw ones.
#[derive(Debug, Parser)]
#[command(name = "hsm-bench-signatures", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the cluster of a fresh engine, its users, and one TLS key of each algorithm.
    Provision(Engine),
    /// Keeps signatures in flight on one connection, in turns.
    Load {
        #[command(flatten)]
        engine: Engine,
        #[arg(long)]
        algorithm: Algorithm,
        /// One turn of so long, instead of those that standard input asks for.
        #[arg(long)]
        seconds: Option<u64>,
        #[arg(long)]
        in_flight: u32,
        /// Ask what each signature took, too, as the proxy does.
        #[arg(long)]
        timed: bool,
    },
    /// Signs by aws-lc-rs alone, in turns, and counts its own CPU time.
    Raw {
        #[arg(long)]
        algorithm: Algorithm,
    },
    /// One signature at a time, by the engine and raw in turns; medians in microseconds.
    Latency {
        #[command(flatten)]
        engine: Engine,
        #[arg(long)]
        algorithm: Algorithm,
        #[arg(long)]
        count: usize,
    },
    /// Adds P-256 keys to a provisioned cluster, with the numbers from `from` to `to`, exclusive.
    Fill {
        #[command(flatten)]
        engine: Engine,
        #[arg(long)]
        from: u64,
        #[arg(long)]
        to: u64,
    },
    /// Adds a P-256 key and a certificate for each of so many sites.
    Sites {
        #[command(flatten)]
        engine: Engine,
        #[command(flatten)]
        sites: Sites,
    },
    /// Waits until an engine accepts, and takes one signature of the key with this number.
    First {
        #[command(flatten)]
        engine: Engine,
        #[arg(long)]
        number: u64,
    },
    /// One signature with each of so many keys, so that they are in the engine's memory.
    Touch {
        #[command(flatten)]
        engine: Engine,
        #[arg(long)]
        keys: u64,
    },
    /// Rotates the cluster key, and signs for some seconds before and until it is done.
    Rotate {
        #[command(flatten)]
        engine: Engine,
        #[arg(long)]
        seconds: u64,
    },
}

/// Where an engine listens, and how to log in there.
#[derive(Debug, Args)]
struct Engine {
    #[arg(long)]
    socket: PathBuf,
    /// Keeps the session's token between runs: a password hash is no part of what is measured.
    #[arg(long)]
    token: PathBuf,
    /// Who to log in as, with the benchmarks' password.
    #[arg(long, default_value = cluster::USER)]
    user: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    P256,
    Rsa2048,
    /// Only in a cluster that xtask made.
    Rsa4096,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hsm-bench-signatures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Outcome<Value> {
    let done = |()| json!({});
    match command {
        Command::Provision(engine) => cluster::provision(engine).map(done),
        Command::Load { engine, algorithm, seconds, in_flight, timed } => {
            let pipeline = Pipeline::open(engine)?;
            let mut pipeline = if *timed { pipeline.timed() } else { pipeline };
            pipeline.select(cluster::label(*algorithm), *algorithm)?;
            let mut turn = |time| Ok(json!({ "signatures": pipeline.run_for(time, *in_flight)? }));
            match seconds {
                Some(seconds) => turn(Duration::from_secs(*seconds)),
                None => take_turns(turn),
            }
        }
        Command::Raw { algorithm } => {
            let key = RawKey::generate(*algorithm)?;
            take_turns(|time| {
                let (signatures, cpu) = key.run_for(time)?;
                Ok(json!({ "signatures": signatures, "cpu_seconds": cpu.as_secs_f64() }))
            })
        }
        Command::Latency { engine, algorithm, count } => latency(engine, *algorithm, *count),
        Command::Fill { engine, from, to } => cluster::fill(engine, *from..*to).map(done),
        Command::Sites { engine, sites } => sites::make(engine, sites).map(done),
        Command::First { engine, number } => cluster::first(engine, *number).map(done),
        Command::Rotate { engine, seconds } => rotation::rotate(engine, Duration::from_secs(*seconds)),
        Command::Touch { engine, keys } => cluster::touch(engine, *keys).map(done),
    }
}

/// A turn for each line of standard input, which says how many milliseconds it lasts.
fn take_turns(mut turn: impl FnMut(Duration) -> Outcome<Value>) -> Outcome<Value> {
    let mut turns = 0;
    for line in std::io::stdin().lines() {
        println!("{}", turn(Duration::from_millis(line?.trim().parse()?))?);
        turns += 1;
    }
    Ok(json!({ "turns": turns }))
}

/// Alternates, so that both see the same machine. What the engine adds is the median over pairs: a machine that changes between
/// two speeds may have the median of one at the one speed, and that of the other at the other.
fn latency(engine: &Engine, algorithm: Algorithm, count: usize) -> Outcome<Value> {
    let (mut pipeline, raw) = (Pipeline::open(engine)?, RawKey::generate(algorithm)?);
    pipeline.select(cluster::label(algorithm), algorithm)?;
    let [mut by_engine, mut by_raw, mut added] = [const { Vec::new() }; 3];
    for turn in 0..count + count / 10 {
        let began = Instant::now();
        pipeline.one()?;
        let engine = began.elapsed().as_secs_f64();
        let began = Instant::now();
        raw.sign()?;
        let raw = began.elapsed().as_secs_f64();
        if turn >= count / 10 {
            by_engine.push(engine);
            by_raw.push(raw);
            added.push(engine - raw);
        }
    }
    let micros = |of: &mut Vec<f64>| {
        of.sort_unstable_by(f64::total_cmp);
        of[of.len() / 2] * 1e6
    };
    Ok(json!({
        "engine_us": micros(&mut by_engine),
        "raw_us": micros(&mut by_raw),
        "added_us": micros(&mut added),
        "count": count
    }))
}
