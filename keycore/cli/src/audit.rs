//! `hsm audit`: reads logs and holds them against what is known besides. Needs no engine but for anchors.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::file::OutputFile;
use crate::output::{Answer, Format};

mod anchors;
mod cloudtrail;
mod export;
mod filter;
mod record;
mod syslog;
mod tail;
mod verify;

use anchors::TrustArguments;
use export::{ExportFormat, export};
use filter::{Filter, FilterArguments};
use syslog::{Host, Syslog};
use tail::tail;
use verify::verify;

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Recompute the chain of every replica's log; names the first record that was changed, dropped or moved
    #[command(
        after_help = "With a key, every checkpoint's signature is checked; with anchors, also that no log was cut off or put \
                            back: hsm audit verify --public-key audit.pem --live"
    )]
    Verify {
        #[command(flatten)]
        log: LogDirectory,
        #[command(flatten)]
        trust: TrustArguments,
    },
    /// Show where each replica's log stands, signed; keep it elsewhere to prove later that nothing was cut off
    Anchors {
        /// File to write them to, for `hsm audit verify --anchors`; replaced if it is there
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write the key that signs the logs' checkpoints
    PublicKey(OutputFile),
    /// Show the latest records of all replicas, and those that come
    #[command(after_help = FILTERS)]
    Tail {
        #[command(flatten)]
        log: LogDirectory,
        /// How many
        #[arg(long, short = 'n', default_value = "20", value_parser = clap::value_parser!(u32).range(0..=100_000))]
        count: u32,
        /// Go on with those that are written from now on, until Ctrl-C; in JSON, one a line
        #[arg(long, short = 'f')]
        follow: bool,
        #[command(flatten)]
        filter: FilterArguments,
    },
    /// Write records of all replicas, one a line, for other programs
    ///
    /// The chain is checked on the way: what is written is unchanged, and a broken record is named and ends it with a failure.
    #[command(after_help = FILTERS)]
    Export {
        #[command(flatten)]
        log: LogDirectory,
        /// How each record is written
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// Host that syslog lines name as theirs
        #[arg(long, value_name = "NAME", default_value = "-")]
        hostname: Host,
        #[command(flatten)]
        filter: FilterArguments,
    },
}

/// What `--user` means where nobody logs in.
const FILTERS: &str = "A record is shown if all of --since, --until, --operation, --replica and --refused fit that are given, and \
                       --user: here it says whose records. No engine is asked.";

/// Where logs are.
#[derive(Debug, Args)]
pub(crate) struct LogDirectory {
    /// Directory of the log: audit in the engine's state-dir
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/hsm-engine/audit")]
    dir: PathBuf,
}

impl AuditCommand {
    pub(crate) fn run(&self, connection: &Connection, output: Format) -> Result<Answer, Failure> {
        match self {
            // The anchors first: a log that goes on meanwhile is only longer.
            Self::Verify { log, trust } => verify(&log.dir, &trust.load(connection)?),
            Self::Anchors { out } => anchors::show(connection, out.as_deref()),
            Self::PublicKey(out) => anchors::public_key(connection, out),
            Self::Tail { log, count, follow, filter } => {
                let filter = Filter::new(filter, connection.user.as_ref());
                tail(&log.dir, usize::try_from(*count).unwrap_or(usize::MAX), *follow, &filter, output)
            }
            Self::Export { log, format, hostname, filter } => {
                let filter = Filter::new(filter, connection.user.as_ref());
                export(&log.dir, *format, &Syslog { host: hostname }, &filter)
            }
        }
    }
}
