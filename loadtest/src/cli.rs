//! The command line.

mod args;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::attend::{Interrupt, attend};
use crate::drill::{Disturbance, Drill, DrillError, Moment, Replica};
use crate::load::LoadError;
use crate::report::Report;
use crate::target::TargetError;
use crate::time::thousands;

pub use args::Cli;
use args::{At, Command, DrillArgs, HandshakesArgs};

/// Runs the command; the exit code is 0 if all went well, 1 if handshakes failed or a drill did, 2 if it could not
/// be carried out at all.
pub fn run(cli: &Cli) -> ExitCode {
    let outcome = match &cli.command {
        Command::Handshakes(args) => handshakes(args),
        Command::Drill(args) => drill(args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("hsm-loadtest: {error}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Drill(#[from] DrillError),
    #[error("a runtime can't be started: {0}")]
    Runtime(io::Error),
    #[error("--json {}: {source}", path.display())]
    Json { path: PathBuf, source: io::Error },
}

fn handshakes(args: &HandshakesArgs) -> Result<bool, Error> {
    raise_file_limit(args.load.concurrency);
    let load = args.load.load(&args.connect, &args.ca)?;
    let report = runtime()?.block_on(async {
        let mut interrupt = Interrupt::catch().map_err(Error::Runtime)?;
        let begun = Instant::now();
        let mut running = load.clone().start()?;
        attend(&mut running, &mut interrupt, String::new()).await?;
        Ok::<_, Error>(Report::new(&load, begun.elapsed(), running.tally()))
    })?;
    say(args.load.json.as_deref(), &report.to_string());
    write_json(args.load.json.as_deref(), &report)?;
    if report.handshakes == 0 && report.failed == 0 {
        say(args.load.json.as_deref(), "no handshake was made\n");
    }
    Ok(report.failed <= args.allow_failures && report.resumed == 0 && report.handshakes > 0)
}

fn drill(args: &DrillArgs) -> Result<bool, Error> {
    raise_file_limit(args.load.concurrency);
    let (number, disturbance) = match (args.kill, args.stop) {
        (Some(number), _) => (number, Disturbance::Kill),
        (None, stop) => (stop.unwrap_or(0), Disturbance::Stop(args.frozen)),
    };
    let replica = Replica::new(&args.state_dir, number);
    // First, because a wrong state directory is the commonest mistake, and a missing CA file a riddle then.
    replica.process().map_err(DrillError::from)?;
    let ca = args.ca.clone().unwrap_or_else(|| args.state_dir.join("ca.pem"));
    let load = args.load.load(&args.connect, &ca)?;
    let extent = load.extent;
    let json = args.load.json.as_deref();
    let drill = Drill {
        replica,
        number,
        disturbance,
        at: match args.at {
            Some(At::After(time)) => Moment::After(time),
            Some(At::Share(percent)) => percent.of(extent),
            None => Moment::middle_of(extent),
        },
        load,
        rounds: args.rounds,
        pause: args.pause,
        max_latency: args.max_latency,
        baseline: args.baseline,
        max_restart: args.max_restart,
    };
    let report = runtime()?.block_on(drill.run(|round| say(json, &format!("{round}\n"))))?;
    if let Some(baseline) = &report.baseline {
        say(
            json,
            &format!(
                "undisturbed: {} handshakes, p99 {} ms\n",
                thousands(baseline.handshakes),
                baseline.latency_ms.p99
            ),
        );
    }
    say(json, &report.to_string());
    write_json(json, &report)?;
    Ok(report.passed)
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)
}

/// For people: on standard output, unless JSON goes there.
fn say(json: Option<&Path>, text: &str) {
    // Whoever closed the pipe doesn't want to read more; the exit code still tells.
    let _closed = if json == Some(Path::new("-")) {
        io::stderr().write_all(text.as_bytes())
    } else {
        io::stdout().write_all(text.as_bytes())
    };
}

fn write_json(path: Option<&Path>, report: &impl Serialize) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let failed = |source| Error::Json { path: path.to_owned(), source };
    let mut json = serde_json::to_vec_pretty(report).map_err(|error| failed(error.into()))?;
    json.push(b'\n');
    if path == Path::new("-") { io::stdout().write_all(&json) } else { fs::write(path, &json) }
        .map_err(failed)
}

/// Each handshake under way is an open file.
fn raise_file_limit(concurrency: u16) {
    let wanted = u64::from(concurrency) + 64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = limit.maximum.map_or(Some(wanted), |maximum| Some(maximum.min(wanted)));
        // If it is refused, the handshakes beyond the limit fail with the system's own words.
        let _refused = setrlimit(Resource::Nofile, limit);
    }
}
