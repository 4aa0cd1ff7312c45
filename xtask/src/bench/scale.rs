//! `cargo xtask bench scale`: stores of 10³, 10⁴, 10⁵ and 10⁶ keys, how soon an engine serves from them, and what a key
//! costs in memory.
//!
//! The keys are generated through the socket, one commit each, as in service. The directory is one in memory where there is
//! such, so that a million commits need not wait for a million syncs; nothing that is measured syncs.

use std::path::Path;
use std::time::Instant;

use rustix::process::Pid;
use serde::Serialize;

use super::Bench;
use super::cores::Cores;
use super::engine_process::{EnginePlace, memory_directory};
use super::figures::{median, now, write_json};
use super::machine::{self, Machine};
use crate::error::Error;

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// A replica with this many keys serves its first signature within [`SECONDS`].
const AIM: u64 = 100_000;
const SECONDS: f64 = 1.0;

/// Keys of a provisioned cluster, one for each algorithm. They count: an engine takes no more than 1,000,000.
const PROVISIONED: u64 = 2;

/// Room for every key, so that what each costs is seen.
const SETTINGS: &str = "key-cache = 2000000";

#[derive(Debug, Serialize)]
struct Results {
    when: String,
    machine: Machine,
    sizes: Vec<Size>,
}

#[derive(Debug, Serialize)]
struct Size {
    keys: u64,
    store_bytes: u64,
    /// From the start of the supervisor to the first signature, once for each round.
    first_signature_ms: Vec<f64>,
    /// Resident memory of the replica after the first signature.
    resident_kib: u64,
    /// And after one with every key.
    all_unsealed_kib: u64,
}

pub(super) fn run(
    bench: &Bench,
    largest: u64,
    programs: &Path,
    root: &Path,
    cores: &Cores,
) -> Result<(), Error> {
    let scratch = memory_directory()?;
    let place = EnginePlace::prepare(scratch.path(), programs, SETTINGS)?;
    let mut engine = place.start(cores)?;
    place.await_ready(&mut engine)?;
    place.client(cores, "provision", &[])?;

    let mut results = Results { when: now(), machine: machine::describe(root), sizes: Vec::new() };
    let mut filled = 0;
    for keys in SIZES.into_iter().filter(|keys| *keys <= largest) {
        let numbered = keys - PROVISIONED;
        place.client(cores, "fill", &["--from", &filled.to_string(), "--to", &numbered.to_string()])?;
        filled = numbered;
        let mut first_signature_ms = Vec::new();
        for _ in 0..bench.rounds {
            drop(engine);
            let began = Instant::now();
            engine = place.start(cores)?;
            place.client(cores, "first", &["--number", &(numbered / 2).to_string()])?;
            first_signature_ms.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        let replica = place.replica(0)?;
        let resident_kib = resident_kib(replica)?;
        place.client(cores, "touch", &["--keys", &numbered.to_string()])?;
        let (all_unsealed_kib, store_bytes) = (self::resident_kib(replica)?, place.store_bytes()?);
        println!(
            "{keys} keys: first signature after {:.0} ms, {resident_kib} KiB, all unsealed {all_unsealed_kib} KiB",
            median(first_signature_ms.clone())
        );
        results.sizes.push(Size { keys, store_bytes, first_signature_ms, resident_kib, all_unsealed_kib });
    }
    drop(engine);
    print!("\n{}", table(&results.sizes));
    write_json(&bench.reports(root), "scale", &results)
}

/// Resident memory of one process.
pub(super) fn resident_kib(pid: Pid) -> Result<u64, Error> {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(&path).map_err(Error::file(&path))?;
    let value =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    value.ok_or_else(|| Error::LoadReport(format!("no VmRSS in {path}")))
}

fn table(sizes: &[Size]) -> String {
    let mut text = String::from(
        "| keys | store | start to first signature, median (most) | resident then | resident with every key unsealed | per key |\n",
    );
    text += &format!("|{}\n", "---|".repeat(6));
    for size in sizes {
        let (middle, most) = (
            median(size.first_signature_ms.clone()),
            size.first_signature_ms.iter().copied().fold(0.0, f64::max),
        );
        let verdict = match size.keys {
            AIM if middle / 1000.0 < SECONDS => "; goal 1 s: met",
            AIM => "; goal 1 s: **not met**",
            _ => "",
        };
        let per_key = size.all_unsealed_kib.saturating_sub(size.resident_kib) * 1024 / size.keys;
        text += &format!(
            "| {} | {} MB | {middle:.0} ms ({most:.0} ms){verdict} | {} KiB | {} KiB | {per_key} B |\n",
            size.keys,
            size.store_bytes / 1_000_000,
            size.resident_kib,
            size.all_unsealed_kib
        );
    }
    text
}
