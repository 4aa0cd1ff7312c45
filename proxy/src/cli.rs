//! The command line of `hsm-proxy`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use time::OffsetDateTime;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, UpstreamUrl};
use crate::dev::{self, DevOptions};
use crate::drill;
use crate::proxy::Proxy;
use crate::reload::Watched;
use crate::signer::EngineKeys;
use crate::upgrade::Inherited;

/// Exit code for a configuration or command line that can't be used (`EX_USAGE` of `sysexits.h`).
const USAGE: u8 = 64;

/// Terminates TLS with keys that only the HSM engines hold.
#[derive(Debug, Parser)]
#[command(name = "hsm-proxy", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    ///
    /// Exits with 64 if the configuration can't be used, before any port is bound; with 1 if serving fails.
    Run(ConfigFile),
    /// Check the configuration, and prove the key of each site: an engine signs, the certificate verifies.
    ///
    /// Warns of upstreams that can't be reached now, certificates that end soon, and files that others may change. Exits with
    /// 64 if the configuration can't be used, with 1 if a site would not work, and with 0 after warnings.
    Check(ConfigFile),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Kill or freeze an engine of a proxy that runs, and see what clients see: full handshakes before, during and after.
    ///
    /// Asks before it does. A frozen engine continues however this command ends, but by SIGKILL. It needs the right to
    /// signal the engine: run it as root, or as the engine's user. Exits with 64 if it is asked for something that can't
    /// be, and with 1 if a client noticed or the drill could not be made.
    Drill(drill::Options),
    /// Try it out: engines, cluster, users, keys, certificates and the proxy, all in one directory.
    ///
    /// The first run makes them, later runs reuse them. Everything stops when this process does.
    Dev(Dev),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration; see docs/configuration.md.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Dev {
    /// Where requests go, as http://host:port; without it, to a page that shows who signed the handshake.
    #[arg(long, value_name = "URL")]
    to: Option<UpstreamUrl>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443", value_parser = address)]
    listen: SocketAddr,
    /// Where everything is kept: nothing is written elsewhere.
    #[arg(long, value_name = "DIRECTORY", default_value = ".hsm-dev")]
    state_dir: PathBuf,
    /// How many engines to run.
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    replicas: u16,
}

fn address(text: &str) -> Result<SocketAddr, InvalidAddress> {
    text.parse().map_err(|_| InvalidAddress)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write an IP address and a port, like 127.0.0.1:8443 or [::1]:8443")]
struct InvalidAddress;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // To a closed pipe: nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    start_logging(match arguments.command {
        Command::Dev(_) | Command::Drill(_) => "warn",
        Command::Run(_) | Command::Check(_) | Command::Schema => "info",
    });
    match arguments.command {
        Command::Run(file) => run(&file.config),
        Command::Check(file) => prove(&file.config),
        Command::Drill(options) => exercise(&options),
        Command::Schema => {
            // To a closed pipe: nobody to tell.
            let _ = write!(std::io::stdout(), "{}", Config::json_schema());
            ExitCode::SUCCESS
        }
        Command::Dev(Dev { to, listen, state_dir, replicas }) => {
            match dev::run(&DevOptions { to, listen, state_dir, replicas }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error, 1),
            }
        }
    }
}

/// To stderr; `RUST_LOG` chooses what.
fn start_logging(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    format.with_ansi(std::io::stderr().is_terminal()).init();
}

fn run(file: &Path) -> ExitCode {
    crate::process::lock_down();
    let watched = Watched::new(file.to_owned());
    let (config, keys) = match load(file) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => return failed(&error, 1),
    };
    match Proxy::builder(config, Arc::new(keys)).config_file(watched).inherit(inherited).bind() {
        Ok(proxy) => match proxy.run(|| ()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, 1),
        },
        Err(error) if error.is_configuration() => failed(&error, USAGE),
        Err(error) => failed(&error, 1),
    }
}

fn prove(file: &Path) -> ExitCode {
    let (config, keys) = match load(file) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let report = crate::check::check(&config, file, &keys, OffsetDateTime::now_utc());
    // To a closed pipe: the exit code still tells.
    let _ = write!(std::io::stdout(), "{report}");
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn exercise(options: &drill::Options) -> ExitCode {
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(error) => return failed(&error, USAGE),
    };
    let report = match drill::run(options, &config) {
        Ok(report) => report,
        Err(error) => return failed(&error, if error.is_usage() { USAGE } else { 1 }),
    };
    let text = match serde_json::to_string_pretty(&report) {
        Ok(json) if options.json => format!("{json}\n"),
        _ => report.to_string(),
    };
    // To a closed pipe: the exit code still tells.
    let _ = write!(std::io::stdout(), "{text}");
    if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn load(file: &Path) -> Result<(Config, EngineKeys), ExitCode> {
    let config = Config::load(file).map_err(|error| failed(&error, USAGE))?;
    let keys = EngineKeys::from_settings(&config.hsm, config.timeouts.sign);
    let keys = keys.map_err(|error| failed(&error, USAGE))?;
    Ok((config, keys))
}

fn failed(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("hsm-proxy: {error}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_address_needs_its_port() {
        assert!(address("[::1]:0").is_ok());
        for bad in ["8443", "localhost", "127.0.0.1", ":8443"] {
            assert_eq!(address(bad), Err(InvalidAddress), "{bad}");
        }
    }
}
