//! Asks an engine for signatures, or makes the same ones itself: what `cargo xtask bench engine` compares. Never shipped.
//!
//! Every command prints one line of JSON. Where it runs, and whose CPU time is taken, is up to xtask.

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
    /// Keeps signatures in flight on one connection for some seconds.
    Load {
        #[command(flatten)]
        engine: Engine,
        #[arg(long)]
        algorithm: Algorithm,
        #[arg(long)]
        seconds: u64,
        #[arg(long)]
        in_flight: u32,
        /// Ask what each signature took, too, as the proxy does.
        #[arg(long)]
        timed: bool,
    },
    /// Signs by aws-lc-rs alone for some seconds, and counts its own CPU time.
    Raw {
        #[arg(long)]
        algorithm: Algorithm,
        #[arg(long)]
        seconds: u64,
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
            let began = Instant::now();
            let signatures = pipeline.run_for(Duration::from_secs(*seconds), *in_flight)?;
            Ok(json!({ "signatures": signatures, "seconds": began.elapsed().as_secs_f64() }))
        }
        Command::Raw { algorithm, seconds } => {
            let (signatures, cpu) = RawKey::generate(*algorithm)?.run_for(Duration::from_secs(*seconds))?;
            Ok(json!({ "signatures": signatures, "cpu_seconds": cpu.as_secs_f64() }))
        }
        Command::Latency { engine, algorithm, count } => latency(engine, *algorithm, *count),
        Command::Fill { engine, from, to } => cluster::fill(engine, *from..*to).map(done),
        Command::Sites { engine, sites } => sites::make(engine, sites).map(done),
        Command::First { engine, number } => cluster::first(engine, *number).map(done),
        Command::Rotate { engine, seconds } => rotation::rotate(engine, Duration::from_secs(*seconds)),
        Command::Touch { engine, keys } => cluster::touch(engine, *keys).map(done),
    }
}

/// Alternates, so that both see the same machine.
fn latency(engine: &Engine, algorithm: Algorithm, count: usize) -> Outcome<Value> {
    let (mut pipeline, raw) = (Pipeline::open(engine)?, RawKey::generate(algorithm)?);
    pipeline.select(cluster::label(algorithm), algorithm)?;
    let (mut by_engine, mut by_raw) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for turn in 0..count + count / 10 {
        let began = Instant::now();
        pipeline.one()?;
        let engine = began.elapsed();
        let began = Instant::now();
        raw.sign()?;
        if turn >= count / 10 {
            by_engine.push(engine);
            by_raw.push(began.elapsed());
        }
    }
    let micros = |of: &mut Vec<Duration>| {
        of.sort_unstable();
        of[of.len() / 2].as_secs_f64() * 1e6
    };
    Ok(json!({ "engine_us": micros(&mut by_engine), "raw_us": micros(&mut by_raw), "count": count }))
}
