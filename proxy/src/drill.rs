//! `hsm-proxy drill`: kills or freezes an engine of a proxy that serves, and tells what clients saw.
//!
//! The clients are this process: full handshakes through the proxy's own listener, before, during and after. Load,
//! signals and judgement are those of `hsm-loadtest`.

mod engines;
mod report;
mod signed;

use std::io::{self, BufRead, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hsm_loadtest::{
    Disturbance, Drill, DrillError, Extent, Load, LoadError, Moment, ReplicaError, Report, Target,
    TargetError, TargetOptions, human,
};

use crate::config::{Config, HostPattern, SiteSettings};
use engines::ChosenEngine;
pub(crate) use report::DrillReport;
use report::{EngineReport, Phase};
use signed::Answers;

/// From the beginning of the load to the engine's end: the load is under way then.
const SETTLED: Duration = Duration::from_millis(300);

/// The least time that a killed engine has to come back.
const RESTART: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("disturbance").required(true))]
pub(crate) struct Options {
    /// The configuration of the running proxy.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Kill engine N by SIGKILL: its place in [hsm] engines, from 0.
    #[arg(long, value_name = "N", group = "disturbance")]
    kill: Option<u16>,
    /// Freeze engine N by SIGSTOP, and let it continue.
    #[arg(long, value_name = "N", group = "disturbance")]
    freeze: Option<u16>,
    /// How long it stands still; or for how long clients go on after it was killed.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = hsm_loadtest::parse_duration)]
    time: Duration,
    /// How long clients come before, and after.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = hsm_loadtest::parse_duration)]
    around: Duration,
    /// Handshakes that are begun each second.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// The longest that a handshake may take.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = hsm_loadtest::parse_duration)]
    max_latency: Duration,
    /// The host that is asked for [default: the first of the configuration that is no wildcard].
    #[arg(long, value_name = "HOST")]
    site: Option<String>,
    /// Ask for no confirmation.
    #[arg(long)]
    yes: bool,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why a drill can't be made. That it went badly is no error, but in the report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no engine {wanted}: the configuration has {}", .known.join(", "))]
    NoEngine { wanted: u16, known: Vec<String> },
    #[error("there is no engine: no socket engine-*.sock in {}", .0.display())]
    NoSockets(PathBuf),
    #[error("engine {0} is on another machine ({1}): make the drill there")]
    Elsewhere(u16, String),
    #[error("no [[site]] of the configuration is for {0}")]
    NoSite(String),
    #[error("no [[site]] has a host that is no wildcard: name one by --site")]
    OnlyWildcards,
    #[error("site {0} has no certificate file by which clients could know it")]
    NoCertificate(String),
    #[error("[proxy] listen has no address with a port that is known")]
    NoAddress,
    #[error("nobody is here to be asked; --yes makes the drill without a question")]
    NobodyToAsk,
    #[error("not confirmed; nothing was done")]
    NotConfirmed,
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Engine(#[from] ReplicaError),
    #[error(
        "before the drill, {failed} of {all} handshakes failed ({reasons}); put that right first, nothing was done"
    )]
    Ill { failed: u64, all: u64, reasons: String },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Drill(#[from] DrillError),
    #[error("a runtime can't be started: {0}")]
    Runtime(io::Error),
}

impl Error {
    /// Whether the command line or the configuration is to blame.
    pub(crate) fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::Engine(_)
                | Self::Ill { .. }
                | Self::Load(_)
                | Self::Drill(_)
                | Self::Runtime(_)
                | Self::NotConfirmed
        )
    }
}

/// Makes the drill.
///
/// # Errors
///
/// [`Error`] if it can't be made. A frozen engine continues in any case, but if this process is killed by SIGKILL.
pub(crate) fn run(options: &Options, config: &Config) -> Result<DrillReport, Error> {
    let engine = ChosenEngine::find(options.kill.or(options.freeze).unwrap_or(0), &config.hsm)?;
    let address = address_of(&config.proxy.listen)?;
    let site = site(options.site.as_deref(), &config.sites)?;
    let load = Load {
        target: target(address, config, site)?,
        extent: Extent::Duration(options.around),
        rate: Some(f64::from(options.rate)),
        // An engine that stands still may hold up each of them, and they go on coming.
        concurrency: u16::try_from(options.rate.saturating_mul(2)).unwrap_or(u16::MAX).clamp(16, 2_000),
        threads: 1,
        timeout: Duration::from_secs(10),
    };
    let process = engine.replica.process()?.pid();
    if !options.yes {
        confirm(&engine, process, options, address)?;
    }
    let admin = config.proxy.admin_listen.map(reachable);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let start = Answers::ask(admin);
        let before = undisturbed(&load).await?;
        if before.failed > 0 || before.handshakes == 0 {
            let reasons: Vec<_> = before.examples.values().cloned().collect();
            let all = before.failed + before.handshakes;
            return Err(Error::Ill { failed: before.failed, all, reasons: reasons.join("; ") });
        }
        let between = Answers::ask(admin);
        let drill = Drill {
            replica: engine.replica.clone(),
            number: engine.number,
            disturbance: match options.kill {
                Some(_) => Disturbance::Kill,
                None => Disturbance::Stop(options.time),
            },
            at: Moment::After(SETTLED),
            load: Load { extent: Extent::Duration(SETTLED + options.time), ..load.clone() },
            rounds: 1,
            pause: Duration::ZERO,
            max_latency: options.max_latency,
            baseline: false,
            max_restart: options.time.max(RESTART),
        };
        let mut drilled = drill.run(|_| ()).await?;
        let Some(round) = drilled.rounds.pop() else { return Err(DrillError::Interrupted.into()) };
        let then = Answers::ask(admin);
        let after = undisturbed(&load).await?;
        let end = Answers::ask(admin);
        let mut problems = round.problems.clone();
        if after.failed > 0 {
            problems.push(format!("{} handshakes failed afterwards", after.failed));
        }
        Ok(DrillReport {
            passed: problems.is_empty(),
            engine: EngineReport::new(&engine, process, options.kill.is_some(), &round),
            address: address.to_string(),
            site: host(site).unwrap_or_default().to_owned(),
            before: Phase::new(&before, start.until(&between)),
            during: Phase::new(&round.load, between.until(&then)),
            after: Phase::new(&after, then.until(&end)),
            problems,
        })
    })
}

async fn undisturbed(load: &Load) -> Result<Report, LoadError> {
    let begun = Instant::now();
    let mut running = load.clone().start()?;
    running.finished().await?;
    Ok(Report::new(load, begun.elapsed(), running.tally()))
}

/// The first address that clients could use; from here, where it listens on all of them.
fn address_of(listen: &[SocketAddr]) -> Result<SocketAddr, Error> {
    listen.iter().copied().find(|address| address.port() != 0).map(reachable).ok_or(Error::NoAddress)
}

fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn host(site: &SiteSettings) -> Option<&str> {
    site.host.iter().find(|host| host.wildcard_suffix().is_none() && !host.is_any()).map(HostPattern::as_str)
}

fn site<'a>(wanted: Option<&str>, sites: &'a [SiteSettings]) -> Result<&'a SiteSettings, Error> {
    match wanted {
        Some(wanted) => {
            let wanted = wanted.to_ascii_lowercase();
            let found = sites.iter().find(|site| site.host.iter().any(|host| host.as_str() == wanted));
            found.filter(|site| host(site).is_some()).ok_or(Error::NoSite(wanted))
        }
        None => sites.iter().find(|site| host(site).is_some()).ok_or(Error::OnlyWildcards),
    }
}

/// Clients know the site by the very certificate that the configuration names, so that no CA has to be given.
fn target(address: SocketAddr, config: &Config, site: &SiteSettings) -> Result<Target, Error> {
    let name = host(site).ok_or(Error::OnlyWildcards)?;
    let files = config.certificate_files(site);
    let certificate = files.first().ok_or_else(|| Error::NoCertificate(name.to_owned()))?;
    Ok(Target::new(&TargetOptions {
        connect: address.to_string(),
        ca: certificate.clone(),
        server_name: name.to_owned(),
        numbers: None,
        skip: 0,
        version: None,
        key_exchange: None,
        resume: false,
        request: false,
        verify_one_in: NonZeroU32::MIN,
    })?)
}

/// Asks whoever sits here.
fn confirm(engine: &ChosenEngine, process: i32, options: &Options, address: SocketAddr) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::NobodyToAsk);
    }
    let what = match options.kill {
        Some(_) => "killed".to_owned(),
        None => format!("frozen for {}", human(options.time)),
    };
    let mut out = io::stderr().lock();
    // Without an answer nothing happens, so neither does without the question.
    let _ = writeln!(out, "Engine {} ({}, process {process}) will be {what}.", engine.number, engine.name);
    let _ = writeln!(
        out,
        "Its clients are those of the proxy at {address}, and {} a second from here.",
        options.rate
    );
    if engine.of <= 1 {
        let _ = writeln!(out, "It is the only one: full handshakes FAIL meanwhile.");
    }
    let _ = write!(out, "Write yes to go on: ");
    let _ = out.flush();
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Error::NotConfirmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hsm: &str) -> Config {
        Config::parse(&format!(
            "[proxy]\nlisten = [\"0.0.0.0:0\", \"[::]:443\"]\n[hsm]\n{hsm}\n\
             [[site]]\nhost = \"*.example.org\"\ncert = \"w.pem\"\nto = \"http://127.0.0.1:1\"\n\
             [[site]]\nhost = [\"*.example.net\", \"a.example\"]\ncert = \"a.pem\"\nto = \"http://127.0.0.1:1\"\n"
        ))
        .unwrap()
    }

    #[test]
    fn engines_are_named_by_their_place_and_those_of_other_machines_are_left_alone() {
        let config = config("engines = [\"/run/a.sock\", \"tcp://hsm.example\"]");
        let first = ChosenEngine::find(0, &config.hsm).unwrap();
        assert_eq!((first.name.as_str(), first.of), ("/run/a.sock", 2));
        let elsewhere = ChosenEngine::find(1, &config.hsm).err().unwrap();
        assert!(matches!(elsewhere, Error::Elsewhere(1, _)), "{elsewhere}");
        let none = ChosenEngine::find(2, &config.hsm).err().unwrap().to_string();
        assert!(none.contains("there is no engine 2") && none.contains("0: /run/a.sock"), "{none}");
    }

    #[test]
    fn clients_go_where_the_proxy_listens_and_ask_for_a_host_that_it_has() {
        let config = config("");
        assert_eq!(address_of(&config.proxy.listen).unwrap(), "[::1]:443".parse().unwrap());
        assert!(matches!(address_of(&config.proxy.listen[..1]), Err(Error::NoAddress)));
        assert_eq!(host(site(None, &config.sites).unwrap()), Some("a.example"));
        assert_eq!(host(site(Some("A.example"), &config.sites).unwrap()), Some("a.example"));
        assert!(matches!(site(Some("b.example"), &config.sites), Err(Error::NoSite(_))));
        assert!(matches!(site(None, &config.sites[..1]), Err(Error::OnlyWildcards)));
    }
}
