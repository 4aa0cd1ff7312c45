//! Full-handshake load and failover drill against a TLS server.

use std::process::ExitCode;

use clap::Parser;
use hsm_loadtest::Cli;

fn main() -> ExitCode {
    hsm_loadtest::run(&Cli::parse())
}
