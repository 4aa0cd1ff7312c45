//! The command line: which process this is to be.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::exit::StartError;
use crate::{logging, replica, supervisor};

/// Holds private keys and uses them on behalf of those who may: the HSM engine.
///
/// Exit status: 0 after an orderly end, 64 if the configuration is wrong, 70 if the engine can't start or go on.
#[derive(Debug, Parser)]
#[command(name = "hsm-engine", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the replicas and keep them running until SIGTERM or SIGINT.
    Run {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// End when standard input does: whoever holds the other end of the pipe need not be asked.
        #[arg(long)]
        exit_with_stdin: bool,
    },
    /// Check a configuration file and open nothing.
    Check {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// One replica; the supervisor starts it, and it ends when its standard input does.
    #[command(hide = true)]
    Replica {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[arg(long, value_name = "N")]
        index: u16,
        /// Others serve: let them go first while this one opens what it needs.
        #[arg(long)]
        give_way: bool,
    },
}

/// Does what the command line asks until it is done; errors are logged, or printed if there is no log yet.
pub fn run(cli: &Cli) -> ExitCode {
    let outcome = match &cli.command {
        Command::Run { config, exit_with_stdin } => with_config(config, |loaded| {
            logging::start(&loaded);
            supervisor::run(&loaded, config, *exit_with_stdin)
        }),
        Command::Check { config } => with_config(config, |_| {
            println!("{}: ok", config.display());
            Ok(())
        }),
        Command::Replica { config, index, give_way } => with_config(config, |loaded| {
            logging::start(&loaded);
            replica::run(&loaded, *index, *give_way)
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if tracing::dispatcher::has_been_set() {
                tracing::error!("{error}");
            } else {
                eprintln!("hsm-engine: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn with_config(path: &Path, go: impl FnOnce(Config) -> Result<(), StartError>) -> Result<(), StartError> {
    let in_file = |source| StartError::Config { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::ConfigUnreadable { path: path.to_owned(), source })?;
    go(Config::parse(&text).map_err(in_file)?)
}
