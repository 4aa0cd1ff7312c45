//! Attackers, idle connections and a bystander: clients of `cargo xtask bench`. Never shipped.

mod bystander;
mod flood;
mod frames;
mod idle;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use flood::Kind;
use tls::Target;

type Error = Box<dyn std::error::Error>;

#[derive(Debug, Parser)]
#[command(name = "hsm-bench-clients", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Floods the server with frames of HTTP/2, and connects again whenever it is thrown out.
    Flood {
        #[command(flatten)]
        server: Server,
        #[arg(long)]
        kind: Kind,
        /// The address of this machine to come from.
        #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
        from: Ipv4Addr,
        #[arg(long)]
        seconds: u64,
    },
    /// Makes one request on each of so many connections, says `ready`, and keeps them until its input ends.
    Idle {
        #[command(flatten)]
        server: Server,
        #[arg(long)]
        count: usize,
        /// HTTP/2 instead of HTTP/1.1.
        #[arg(long)]
        http2: bool,
    },
    /// Makes requests at appointed times on one connection, and reports their latencies.
    Bystander {
        #[command(flatten)]
        server: Server,
        #[arg(long)]
        seconds: u64,
        #[arg(long, default_value_t = 200)]
        per_second: u32,
    },
}

#[derive(Debug, Args)]
struct Server {
    #[arg(long)]
    connect: SocketAddr,
    /// PEM file of the certificate to trust.
    #[arg(long)]
    ca: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hsm-bench-clients: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<(), Error> {
    let target = |server: &Server, http2| Target::new(server.connect, &server.ca, http2);
    match command {
        Command::Flood { server, kind, from, seconds } => {
            flood::run(&target(server, true)?.from(*from), *kind, Duration::from_secs(*seconds))
        }
        Command::Idle { server, count, http2 } => idle::run(&target(server, *http2)?, *count, *http2),
        Command::Bystander { server, seconds, per_second } => {
            let target = target(server, false)?.from(Ipv4Addr::new(127, 0, 0, 2));
            bystander::run(&target, Duration::from_secs(*seconds), *per_second)
        }
    }
}
