//! `cargo xtask bench`: work per CPU-second of all of a server's processes, side by side with peers.
//!
//! Every server runs on one core and the client, with the web server behind, on another. All are up the whole time and
//! measured in turns, so that what the machine does to one it does to all. CPU time is the scheduler's own account, user
//! and system together, of every process that belongs to the server.

mod abuse;
mod certificates;
mod client;
mod cores;
mod engine;
mod engine_process;
mod figures;
mod html;
mod idle;
mod instructions;
mod machine;
mod origin;
mod peers;
mod rotation;
mod scale;
mod scenario;
mod sites;
mod tail;
mod visitors;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cargo::Workspace;
use crate::error::Error;
use crate::{release, tools};
use client::Client;
use cores::Cores;
use figures::{Comparison, Results};
use peers::{Peer, Stage};

pub(crate) use peers::free_address;
use scenario::{HANDSHAKES, REQUESTS, RESUMED, Scenario, TRANSFER};
use tail::Tail;

/// Unless told otherwise: as many as hsm-loadtest makes by itself, so that no server ever waits for a client.
const HANDSHAKES_AT_A_TIME: u16 = 64;

/// Measures this proxy and its peers.
#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure.
    #[arg(value_enum, default_value_t = Work::Handshakes)]
    work: Work,
    /// How often each server is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seconds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Handshakes or signatures under way at a time; 64 by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Keys of the largest store that `scale` fills and sites of `sites` (1,000,000 by default), and keys of the one of `rotation` (100,000)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..))]
    keys: Option<u64>,
    /// Connections that `idle` keeps.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: usize,
    /// Let what `instructions` counts be what is compared with from now on.
    #[arg(long)]
    accept: bool,
    /// Measure the programs of this directory instead of building them as `cargo xtask release` does.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the report goes [default: loadtest/results]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Work {
    /// Full handshakes: TLS 1.3 with P-256 and with RSA-2048, TLS 1.2 with P-256.
    Handshakes,
    /// Resumed TLS 1.3 handshakes.
    Resumed,
    /// Small responses on kept-alive connections, HTTP/1.1 and HTTP/2.
    Requests,
    /// Bodies of 100 MB.
    Transfer,
    /// The slowest handshakes: at 70 % of the highest rate, and while engines are frozen, killed or flooded.
    Tail,
    /// Signatures through an engine's socket, beside raw ones of aws-lc-rs.
    Engine,
    /// Start and memory of an engine with 10³ to 10⁶ keys. The largest store takes a quarter of an hour to fill.
    Scale,
    /// Ten sites to a million, each with a certificate in a directory and a key in the engine: start, memory, cold and warm
    /// handshakes. A million take some twenty minutes to make.
    Sites,
    /// Rotation of the cluster key of 100,000 keys, while signatures go on.
    Rotation,
    /// One attacker by HTTP/2, in eight ways, and what a bystander and the proxy's memory notice.
    Abuse,
    /// Memory of ten thousand kept connections on which nothing happens, here and in nginx.
    Idle,
    /// Instructions for each operation of the proxy and the engine, by callgrind, compared with those on record. Needs valgrind.
    Instructions,
    /// Everything, one after the other, but instructions.
    All,
}

impl Work {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn scenarios(self) -> Vec<&'static Scenario> {
        match self {
            Self::Handshakes => HANDSHAKES.iter().collect(),
            Self::Resumed => RESUMED.iter().collect(),
            Self::Requests => REQUESTS.iter().collect(),
            Self::Transfer => TRANSFER.iter().collect(),
            Self::All => all_scenarios().collect(),
            Self::Tail
            | Self::Engine
            | Self::Scale
            | Self::Sites
            | Self::Rotation
            | Self::Abuse
            | Self::Idle
            | Self::Instructions => Vec::new(),
        }
    }

    /// What is measured, and the tools that measure.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Engine | Self::Scale | Self::Rotation => &["hsm-engine", "hsm-bench-signatures"],
            Self::Sites => &["hsm-proxy", "hsm-engine", "hsm-loadtest", "hsm-bench-signatures"],
            Self::Abuse | Self::Idle => &["hsm-proxy", "hsm-engine", "hsm-cli", "hsm-bench-clients"],
            Self::Instructions => &["hsm-proxy", "hsm-engine", "hsm-cli", "hsm-loadtest"],
            _ => &[
                "hsm-proxy",
                "hsm-engine",
                "hsm-cli",
                "hsm-loadtest",
                "hsm-bench-inprocess",
                "hsm-bench-signatures",
                "hsm-bench-clients",
            ],
        }
    }
}

fn all_scenarios() -> impl Iterator<Item = &'static Scenario> {
    HANDSHAKES.iter().chain(&RESUMED).chain(&REQUESTS).chain(&TRANSFER)
}

/// Whether this machine has what [`exercise`] needs.
pub(crate) fn can_exercise() -> Result<(), Error> {
    Cores::choose()?;
    tools::for_load()
}

/// Has the hsm-proxy of this directory do everything that is measured, for some seconds each, and ends it, which must go well.
pub(crate) fn exercise(programs: &Path) -> Result<(), Error> {
    const SECONDS: u16 = 2;

    let cores = Cores::choose()?;
    let stage = Stage::set(programs, &cores)?;
    let setting = stage.setting();
    let mut peer = Peer::ours(&setting)?;
    let client = Client::new(programs, setting.scratch, HANDSHAKES_AT_A_TIME, &cores)?;
    for scenario in all_scenarios() {
        client.measure(scenario, &mut peer, SECONDS)?;
    }
    peer.end()
}

impl Bench {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let cores = Cores::choose()?;
        let workspace = Workspace::find()?;
        let programs = match &self.programs {
            Some(directory) => directory.clone(),
            // A profile differs from run to run, and with it the instructions.
            None if self.work == Work::Instructions => {
                workspace.build_release(self.work.packages())?;
                workspace.release()
            }
            None => {
                release::build(&workspace, self.work.packages(), &workspace.shipped())?;
                workspace.shipped()
            }
        };
        let root = workspace.root();
        let engine = || engine::run(self, &programs, root, &cores);
        let scale = || scale::run(self, self.keys.unwrap_or(1_000_000), &programs, root, &cores);
        let sites = || sites::run(self, self.keys.unwrap_or(1_000_000), &programs, root, &cores);
        let rotation = || rotation::run(self, self.keys.unwrap_or(100_000), &programs, root, &cores);
        let abuse = || abuse::run(self, &programs, root, &cores);
        let idle = || idle::run(self, self.connections, &programs, root, &cores);
        match self.work {
            Work::Engine => engine(),
            Work::Scale => scale(),
            Work::Sites => sites(),
            Work::Rotation => rotation(),
            Work::Abuse => abuse(),
            Work::Idle => idle(),
            Work::Instructions => instructions::run(self, &programs, root, &cores),
            Work::All => {
                self.compare(root, &programs, &cores)?;
                engine()?;
                scale()?;
                sites()?;
                rotation()?;
                abuse()?;
                idle()
            }
            _ => self.compare(root, &programs, &cores),
        }
    }

    /// Servers side by side.
    fn compare(&self, root: &Path, programs: &Path, cores: &Cores) -> Result<(), Error> {
        let stage = Stage::set(programs, cores)?;
        let setting = stage.setting();
        let mut peers = Peer::start_all(&setting)?;
        let client = Client::new(programs, setting.scratch, self.handshakes_at_a_time(), cores)?;
        let mut results = Results {
            when: figures::now(),
            machine: machine::describe(root),
            rounds: self.rounds,
            seconds: self.seconds,
            concurrency: self.handshakes_at_a_time(),
            comparisons: Vec::new(),
            tail: None,
        };
        for scenario in self.work.scenarios() {
            println!("{}", scenario.title);
            let comparison = self.comparison(scenario, &client, &mut peers)?;
            println!("\n{}", comparison.table());
            results.comparisons.push(comparison);
        }
        // What was found before is worth its report.
        let mut without_tail = None;
        if matches!(self.work, Work::Tail | Work::All) {
            match Tail::measure(&setting, &client, &mut peers, self.rounds, self.seconds) {
                Ok(tail) => {
                    println!("\n{}", tail.table());
                    results.tail = Some(tail);
                }
                Err(error) => without_tail = Some(error),
            }
        }
        drop(peers);
        for path in results.write(&self.work.name(), &self.reports(root))? {
            println!("written: {}", path.display());
        }
        without_tail.map_or(Ok(()), Err)
    }

    fn comparison(
        &self,
        scenario: &Scenario,
        client: &Client<'_>,
        peers: &mut [Peer],
    ) -> Result<Comparison, Error> {
        let mut taking_part: Vec<&mut Peer> =
            peers.iter_mut().filter(|peer| scenario.includes(peer.kind())).collect();
        for peer in &mut taking_part {
            client.warm_up(scenario, peer)?;
        }
        let mut comparison = Comparison::new(scenario, taking_part.iter().map(|peer| &**peer));
        for round in 1..=self.rounds {
            for peer in &mut taking_part {
                let figure = client.measure(scenario, peer, self.seconds)?;
                println!("round {round}  {:<28} {:>8.0} per CPU-second", peer.name(), figure.per_cpu_second);
                comparison.add(scenario, peer.kind(), figure);
            }
        }
        Ok(comparison)
    }

    fn reports(&self, root: &Path) -> PathBuf {
        self.out.clone().unwrap_or_else(|| root.join("loadtest/results"))
    }

    fn handshakes_at_a_time(&self) -> u16 {
        self.concurrency.unwrap_or(HANDSHAKES_AT_A_TIME)
    }
}
