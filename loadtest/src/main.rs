//! Full-handshake load and failover drill against a TLS server.

use std::process::ExitCode;

use clap::Parser;
use hsm_loadtest::Cli;

/// The system's grows page by page, with a system call each: tasks by the thousand took 10 ms so, while handshakes were due.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hsm_loadtest::run(&Cli::parse())
}
