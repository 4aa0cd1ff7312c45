//! `cargo xtask bench rotation`: the cluster key of a large store is rotated, on a disk, while signatures go on.
//!
//! The keys are made as for `scale`, in memory, and the store is then copied to a disk: what is measured syncs every commit.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::Bench;
use super::cores::Cores;
use super::engine_process::{EnginePlace, memory_directory};
use super::figures::{now, write_json};
use super::machine::{self, Machine};
use crate::error::Error;

/// Made by provisioning.
const PROVISIONED: u64 = 2;

#[derive(Debug, Serialize)]
struct Results {
    when: String,
    machine: Machine,
    keys: u64,
    store_bytes: u64,
    rotation: Value,
}

pub(super) fn run(
    bench: &Bench,
    keys: u64,
    programs: &Path,
    root: &Path,
    cores: &Cores,
) -> Result<(), Error> {
    let filled = memory_directory()?;
    let disk = tempfile::Builder::new().prefix("hsm-bench-").tempdir()?;
    let place = EnginePlace::prepare(filled.path(), programs, "")?;
    let mut engine = place.start(cores)?;
    place.await_ready(&mut engine)?;
    place.client(cores, "provision", &[])?;
    place.client(cores, "fill", &["--from", "0", "--to", &keys.saturating_sub(PROVISIONED).to_string()])?;
    drop(engine);
    copy(&filled.path().join("state"), &disk.path().join("state"))?;

    let place = EnginePlace::prepare(disk.path(), programs, "")?;
    let mut engine = place.start(cores)?;
    place.await_ready(&mut engine)?;
    let rotation = place.client(cores, "rotate", &["--seconds", &bench.seconds.to_string()])?;
    let store_bytes = place.store_bytes()?;
    drop(engine);
    let records = rotation["records"].as_u64().unwrap_or_default();
    let seconds = rotation["seconds"].as_f64().unwrap_or_default();
    println!("{records} records of {keys} keys sealed anew in {seconds:.1} s; no signature failed\n");
    print!("{}", table(&rotation));
    write_json(
        &bench.reports(root),
        "rotation",
        &Results { when: now(), machine: machine::describe(root), keys, store_bytes, rotation },
    )
}

fn table(rotation: &Value) -> String {
    let mut text = String::from(
        "| signatures, one at a time | when | made | median | p99 | longest |\n|---|---|---|---|---|---|\n",
    );
    for (signs, with) in [("one_key", "with one key"), ("all_keys", "with all keys in turn")] {
        for when in ["before", "during"] {
            let of = |what: &str| rotation[signs][when][what].as_f64().unwrap_or_default();
            text += &format!(
                "| {with} | {when} | {} | {:.0} µs | {:.0} µs | {:.1} ms |\n",
                of("signatures"),
                of("p50_us"),
                of("p99_us"),
                of("most_us") / 1000.0
            );
        }
    }
    text
}

/// A directory with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(Error::file(to))?;
    let permissions = fs::metadata(from).map_err(Error::file(from))?.permissions();
    fs::set_permissions(to, permissions).map_err(Error::file(to))?;
    for entry in fs::read_dir(from).map_err(Error::file(from))? {
        let entry = entry.map_err(Error::file(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(Error::file(&path))?;
        }
    }
    Ok(())
}
