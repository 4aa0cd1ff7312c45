//! The process that holds the keys. Everything is in the library; this only hands over the command line.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    hsm_engine::run(&hsm_engine::Cli::parse())
}
