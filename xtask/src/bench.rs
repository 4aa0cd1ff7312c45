//! `cargo xtask bench`: full handshakes per CPU-second of all of a server's processes, side by side with peers.
//!
//! Every server runs on one core and the client on another. All are up the whole time and measured in turns, so that
//! what the machine does to one it does to all. CPU time is the scheduler's own account, user and system together, of
//! every process that belongs to the server.

mod certificate;
mod cores;
mod engine;
mod engine_process;
mod figures;
mod html;
mod machine;
mod measure;
mod peers;
mod scale;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cargo::Workspace;
use crate::error::Error;
use certificate::Certificate;
use cores::Cores;
use figures::Results;
use measure::Client;
use peers::Peer;

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
    /// Handshakes (16 by default) or signatures (64) under way at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Keys of the largest store that `scale` fills.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    keys: u64,
    /// Measure the programs of this directory instead of building them for release.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the report goes [default: loadtest/results]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Work {
    /// Full TLS 1.3 handshakes with a P-256 certificate over X25519.
    Handshakes,
    /// Signatures through an engine's socket, beside raw ones of aws-lc-rs.
    Engine,
    /// Start and memory of an engine with 10³ to 10⁶ keys. The largest store takes a quarter of an hour to fill.
    Scale,
}

impl Work {
    /// What is measured, and the tool that measures.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Handshakes => &["hsm-proxy", "hsm-engine", "hsm-loadtest", "hsm-bench-inprocess"],
            Self::Engine | Self::Scale => &["hsm-engine", "hsm-bench-signatures"],
        }
    }
}

impl Bench {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let cores = Cores::choose()?;
        let workspace = Workspace::find()?;
        let programs = match &self.programs {
            Some(directory) => directory.clone(),
            None => {
                workspace.build_release(self.work.packages())?;
                workspace.release()
            }
        };
        match self.work {
            Work::Handshakes => self.handshakes(&workspace, &programs, &cores),
            Work::Engine => engine::run(self, &programs, workspace.root(), &cores),
            Work::Scale => scale::run(self, self.keys, &programs, workspace.root(), &cores),
        }
    }

    fn handshakes_at_a_time(&self) -> u16 {
        self.concurrency.unwrap_or(16)
    }

    fn handshakes(&self, workspace: &Workspace, programs: &Path, cores: &Cores) -> Result<(), Error> {
        let scratch = tempfile::Builder::new().prefix("hsm-bench-").tempdir()?;
        let certificate = Certificate::make(scratch.path())?;
        let mut peers = Peer::start_all(programs, scratch.path(), &certificate, cores)?;
        let client = Client {
            program: programs.join("hsm-loadtest"),
            seconds: self.seconds,
            concurrency: self.handshakes_at_a_time(),
            cores,
        };

        for peer in &mut peers {
            client.warm_up(peer)?;
        }
        let mut results = Results::new(self, &peers, machine::describe(workspace.root()));
        for round in 1..=self.rounds {
            for (index, peer) in peers.iter_mut().enumerate() {
                let figure = client.measure(peer)?;
                println!("round {round}  {:<28} {:>6.0} per CPU-second", peer.name(), figure.per_cpu_second);
                results.add(index, figure);
            }
        }
        drop(peers);

        print!("\n{}", results.table());
        let directory = self.out.clone().unwrap_or_else(|| workspace.root().join("loadtest/results"));
        for path in results.write(&directory)? {
            println!("written: {}", path.display());
        }
        Ok(())
    }
}
