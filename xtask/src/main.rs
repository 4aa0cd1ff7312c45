//! `cargo xtask dev|test|release|bench|scan`: builds and runs what a contributor needs, by one command each.

mod bench;
mod cargo;
mod dev;
mod engine_directory;
mod error;
mod process;
mod release;
mod scan;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds and runs what a contributor needs, by one command each.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the release binaries and becomes `hsm-proxy dev`: cluster, keys, certificates, engines and proxy.
    Dev(dev::Dev),
    /// Runs all tests, or those whose names contain a filter; installs the tools that they need when it may.
    Test(test::Test),
    /// Builds the programs as they are shipped, hsm-proxy by a profile of what it does under load.
    Release(release::Release),
    /// Measures work per CPU-second side by side with peers, and writes a report to loadtest/results.
    Bench(bench::Bench),
    /// Has testssl.sh and sslyze look at the proxy's TLS, and fails if they find something that is not explained.
    Scan(scan::Scan),
}

fn main() -> ExitCode {
    let outcome = match &Cli::parse().command {
        Command::Dev(dev) => dev.run(),
        Command::Test(test) => test.run(),
        Command::Release(release) => release.run(),
        Command::Bench(bench) => bench.run(),
        Command::Scan(scan) => scan.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
