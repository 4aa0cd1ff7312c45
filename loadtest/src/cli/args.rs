//! What can be asked for.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::drill::Moment;
use crate::load::Load;
use crate::names::Numbers;
use crate::schedule::Extent;
use crate::target::{KeyExchange, Target, TargetError, TargetOptions, TlsVersion};
use crate::time::parse_duration;

/// Full TLS handshakes by the thousand, and engines that die among them.
///
/// Every handshake is a new TCP connection, resumes no session unless told to, and verifies the server's chain, name and
/// (unless told otherwise) signature. Exit code: 0 if all went well, 1 if handshakes failed or a drill did, 2 if it could not be carried out.
#[derive(Debug, Parser)]
#[command(name = "hsm-loadtest", version)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes handshakes, full ones by default, and reports their rate, latencies and failures.
    Handshakes(HandshakesArgs),
    /// Kills or freezes an engine of `hsm-proxy dev` in the middle of a load, and fails if a client notices.
    Drill(DrillArgs),
}

#[derive(Debug, Args)]
pub(super) struct HandshakesArgs {
    /// The server: host:port.
    #[arg(long, value_name = "ADDR")]
    pub(super) connect: String,
    /// PEM file of the certificates to trust.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: PathBuf,
    /// Failed handshakes that are no reason to exit with 1.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) allow_failures: u64,
    #[command(flatten)]
    pub(super) load: LoadArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("disturbance").required(true))]
pub(super) struct DrillArgs {
    /// State directory of the running `hsm-proxy dev`.
    #[arg(long, value_name = "DIR", default_value = ".hsm-dev")]
    pub(super) state_dir: PathBuf,
    /// Kill engine N with SIGKILL.
    #[arg(long, value_name = "N", group = "disturbance")]
    pub(super) kill: Option<u16>,
    /// Freeze engine N with SIGSTOP, and let it continue.
    #[arg(long, value_name = "N", group = "disturbance")]
    pub(super) stop: Option<u16>,
    /// When: a time after the load's beginning (3s), or a share of it (50%) [default: 50%]
    #[arg(long, value_name = "TIME|PERCENT", value_parser = At::parse)]
    pub(super) at: Option<At>,
    /// How long it stays frozen, if the load takes as long.
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(super) frozen: Duration,
    /// How many times.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// Between two rounds.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    pub(super) pause: Duration,
    /// The longest that a handshake may take.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = parse_duration)]
    pub(super) max_latency: Duration,
    /// First make a round undisturbed, and allow ten times its p99 if that is more than --max-latency.
    #[arg(long)]
    pub(super) baseline: bool,
    /// The longest that a killed engine may take to serve again.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub(super) max_restart: Duration,
    /// The server: host:port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub(super) connect: String,
    /// PEM file of the certificates to trust [default: ca.pem in the state directory]
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    #[command(flatten)]
    pub(super) load: LoadArgs,
}

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// The name to ask for, which the certificate must have.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    server_name: String,
    /// Ask for names with these numbers in turn, each where --server-name has {}: each once before any a second time.
    #[arg(long, value_name = "FROM..TO", conflicts_with = "resume")]
    numbers: Option<Numbers>,
    /// Pass over so many of the numbered names, which a run before has asked for.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "numbers")]
    skip: u64,
    /// Begin handshakes for so long.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, conflicts_with = "count")]
    duration: Duration,
    /// Make so many handshakes instead.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Handshakes under way at a time, at most.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(super) concurrency: u16,
    /// Begin so many a second whatever the server does; latencies then count from the appointed times.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Threads of the client.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// A handshake that takes longer has failed.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Offer only this version of TLS.
    #[arg(long, value_name = "VERSION")]
    tls: Option<TlsVersion>,
    /// Offer only this key exchange group.
    #[arg(long, value_name = "GROUP")]
    key_exchange: Option<KeyExchange>,
    /// Resume: each client makes one full handshake, and the others by the ticket of the one before.
    #[arg(long)]
    resume: bool,
    /// Also GET / on each connection.
    #[arg(long)]
    request: bool,
    /// Verify the signature of one handshake in N, and take those of the others on trust: that is a quarter of what a handshake costs
    /// the client, which has to be faster than the server where it has no more than that.
    #[arg(long, value_name = "N", default_value = "1")]
    verify_one_in: NonZeroU32,
    /// Write the report as JSON; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

impl LoadArgs {
    pub(super) fn load(&self, connect: &str, ca: &Path) -> Result<Load, TargetError> {
        let target = Target::new(&TargetOptions {
            connect: connect.to_owned(),
            ca: ca.to_owned(),
            server_name: self.server_name.clone(),
            numbers: self.numbers.clone(),
            skip: self.skip,
            version: self.tls,
            key_exchange: self.key_exchange,
            resume: self.resume,
            request: self.request,
            verify_one_in: self.verify_one_in,
        })?;
        Ok(Load {
            target,
            extent: self.count.map_or(Extent::Duration(self.duration), Extent::Count),
            rate: self.rate,
            concurrency: self.concurrency,
            threads: self.threads,
            timeout: self.timeout,
        })
    }
}

/// `3s` or `50%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    After(Duration),
    Share(Percent),
}

/// 0 to 100.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Percent(u8);

impl At {
    fn parse(text: &str) -> Result<Self, InvalidAt> {
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.parse().ok().filter(|percent| *percent <= 100).ok_or(InvalidAt)?;
                Ok(Self::Share(Percent(percent)))
            }
            None => parse_duration(text).map(Self::After).map_err(|_| InvalidAt),
        }
    }
}

impl Percent {
    pub(super) fn of(self, extent: Extent) -> Moment {
        match extent {
            Extent::Count(count) => {
                let share = u128::from(count) * u128::from(self.0) / 100;
                Moment::Handshakes(u64::try_from(share).unwrap_or(count))
            }
            Extent::Duration(duration) => Moment::After(duration * u32::from(self.0) / 100),
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, InvalidRate> {
    text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0).ok_or(InvalidRate)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a time like 3s, or a share like 50%")]
struct InvalidAt;

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a number greater than 0")]
struct InvalidRate;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_drill_needs_one_disturbance() {
        assert!(Cli::try_parse_from(["hsm-loadtest", "drill"]).is_err());
        assert!(Cli::try_parse_from(["hsm-loadtest", "drill", "--kill", "0", "--stop", "1"]).is_err());
        assert!(Cli::try_parse_from(["hsm-loadtest", "drill", "--kill", "0", "--at", "3s"]).is_ok());
    }

    #[test]
    fn a_moment_is_a_time_or_a_share() {
        assert_eq!(At::parse("3s"), Ok(At::After(Duration::from_secs(3))));
        assert_eq!(At::parse("50%"), Ok(At::Share(Percent(50))));
        assert!(At::parse("101%").is_err());
        assert_eq!(Percent(50).of(Extent::Count(2000)), Moment::Handshakes(1000));
        assert_eq!(
            Percent(30).of(Extent::Duration(Duration::from_secs(10))),
            Moment::After(Duration::from_secs(3))
        );
    }
}
