//! The slowest handshakes: at 70 % of what a server can do at most, beside nginx's, and while engines are in trouble.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde::Serialize;

use super::client::{Client, Work};
use super::figures::{median, round};
use super::peers::{Cluster, Kind, Peer, Setting};
use super::scenario::{HANDSHAKES, Scenario};
use crate::error::Error;
use crate::process::Server;

/// Of the saturation rate.
const SHARE: f64 = 0.7;

/// Seconds of each load; an engine is in trouble from the third on, for five.
const SECONDS: u16 = 10;
const TROUBLE: Duration = Duration::from_secs(3);
const FROZEN: Duration = Duration::from_secs(5);

/// The other user, whose signatures flood an engine.
const FLOOD_USER: &str = "flood";
const FLOOD_KEY: &str = "rsa4096";
const FLOOD_IN_FLIGHT: &str = "64";

/// What was measured, round by round, in milliseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tail {
    rounds: Vec<Round>,
}

#[derive(Debug, Serialize)]
struct Round {
    ours_per_second: f64,
    nginx_per_second: f64,
    ours_p99_ms: f64,
    nginx_p99_ms: f64,
    ours_p999_ms: f64,
    frozen_p999_ms: f64,
    killed_p999_ms: f64,
    flooded_p99_ms: f64,
}

/// A latency divided by another of the same round, and what it may be at most.
pub(crate) struct TailRatio {
    pub(crate) what: &'static str,
    pub(crate) goal: f64,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Tail {
    /// Measures with the servers that are up.
    pub(crate) fn measure(
        setting: &Setting<'_>,
        client: &Client<'_>,
        peers: &mut [Peer],
        rounds: u16,
        seconds: u16,
    ) -> Result<Self, Error> {
        let scenario = &HANDSHAKES[0];
        let cluster = Cluster::of(setting);
        cluster.add_user(FLOOD_USER)?;
        cluster.as_user(
            FLOOD_USER,
            &[
                "key",
                "generate-asymmetric-pair",
                "rsa",
                "--modulus-size-bits",
                "4096",
                "--label",
                FLOOD_KEY,
                "--usage",
                "tls-server",
            ],
        )?;
        let mut tail = Self::default();
        for number in 1..=rounds {
            let saturation = |peers: &mut [Peer], kind| {
                Ok::<_, Error>(client.measure(scenario, of(peers, kind)?, seconds)?.per_second)
            };
            let (ours, nginx) = (saturation(peers, Kind::Ours)?, saturation(peers, Kind::Nginx)?);
            let nginx_work = {
                let peer = of(peers, Kind::Nginx)?;
                client.start_at_rate(scenario, peer, nginx * SHARE, SECONDS)?.finish(peer)?
            };
            let mut under = |trouble: &dyn Fn() -> Result<(), Error>| {
                loaded(client, scenario, of(peers, Kind::Ours)?, ours * SHARE, trouble)
            };
            let calm = under(&|| Ok(()))?;
            let frozen = under(&|| freeze(&cluster))?;
            let killed =
                under(
                    &|| Ok(kill_process(cluster.replica(0)?, Signal::KILL).map_err(std::io::Error::from)?),
                )?;
            let flood = flood(setting, &cluster)?;
            let flooded = under(&|| Ok(()))?;
            drop(flood);
            let at =
                |work: &Work, of: fn(&super::figures::Latency) -> f64| work.latency.as_ref().map_or(0.0, of);
            let found = Round {
                ours_per_second: ours,
                nginx_per_second: nginx,
                ours_p99_ms: at(&calm, |latency| latency.p99_ms),
                nginx_p99_ms: at(&nginx_work, |latency| latency.p99_ms),
                ours_p999_ms: at(&calm, |latency| latency.p999_ms),
                frozen_p999_ms: at(&frozen, |latency| latency.p999_ms),
                killed_p999_ms: at(&killed, |latency| latency.p999_ms),
                flooded_p99_ms: at(&flooded, |latency| latency.p99_ms),
            };
            println!(
                "round {number}  p99 {:.2} ms (nginx {:.2}), p99.9 {:.2} ms; frozen {:.2}, killed {:.2}; flooded p99 {:.2}",
                found.ours_p99_ms,
                found.nginx_p99_ms,
                found.ours_p999_ms,
                found.frozen_p999_ms,
                found.killed_p999_ms,
                found.flooded_p99_ms
            );
            tail.rounds.push(found);
        }
        Ok(tail)
    }

    pub(crate) fn ratios(&self) -> Vec<TailRatio> {
        let ratio = |what, goal, of: fn(&Round) -> f64| {
            let each: Vec<f64> = self.rounds.iter().map(of).filter(|ratio| ratio.is_finite()).collect();
            let least = each.iter().copied().fold(f64::INFINITY, f64::min);
            let most = each.iter().copied().fold(0.0, f64::max);
            TailRatio {
                what,
                goal,
                median: round(median(each), 3),
                least: round(least, 3),
                most: round(most, 3),
            }
        };
        vec![
            ratio("p99 at 70 % of the highest rate, of nginx's at its own", 1.0, |round| {
                round.ours_p99_ms / round.nginx_p99_ms
            }),
            ratio("p99.9 with one of two engines frozen for 5 s, of the undisturbed", 2.0, |round| {
                round.frozen_p999_ms / round.ours_p999_ms
            }),
            ratio("p99.9 with one of two engines killed, of the undisturbed", 2.0, |round| {
                round.killed_p999_ms / round.ours_p999_ms
            }),
            ratio(
                "p99 while another user floods an engine with RSA-4096, of the undisturbed",
                3.0,
                |round| round.flooded_p99_ms / round.ours_p99_ms,
            ),
        ]
    }

    /// For the terminal.
    pub(crate) fn table(&self) -> String {
        let line = |ratio: TailRatio| {
            let TailRatio { what, goal, median, least, most } = ratio;
            let verdict = if median <= goal { "is met" } else { "is NOT met" };
            format!("{median:.2} {what} ({least:.2} to {most:.2}): the goal of at most {goal:.2} {verdict}\n")
        };
        self.ratios().into_iter().map(line).collect()
    }
}

fn of(peers: &mut [Peer], kind: Kind) -> Result<&mut Peer, Error> {
    peers.iter_mut().find(|peer| peer.kind() == kind).ok_or(Error::MissingTool("nginx"))
}

/// The trouble comes when the load is well under way.
fn loaded(
    client: &Client<'_>,
    scenario: &Scenario,
    peer: &mut Peer,
    rate: f64,
    trouble: &dyn Fn() -> Result<(), Error>,
) -> Result<Work, Error> {
    let load = client.start_at_rate(scenario, peer, rate, SECONDS)?;
    std::thread::sleep(TROUBLE);
    let troubled = trouble();
    let work = load.finish(peer)?;
    troubled.map(|()| work)
}

/// It continues on every way out.
fn freeze(cluster: &Cluster) -> Result<(), Error> {
    let engine = cluster.replica(0)?;
    kill_process(engine, Signal::STOP).map_err(std::io::Error::from)?;
    std::thread::sleep(FROZEN);
    kill_process(engine, Signal::CONT).map_err(std::io::Error::from)?;
    Ok(())
}

/// Keeps RSA-4096 signatures in flight at engine 0 until dropped.
fn flood(setting: &Setting<'_>, cluster: &Cluster) -> Result<Server, Error> {
    let mut command = Command::new(setting.programs.join("hsm-bench-signatures"));
    command.args(["load", "--algorithm", "rsa4096", "--in-flight", FLOOD_IN_FLIGHT, "--user", FLOOD_USER]);
    command.arg("--seconds").arg("600").arg("--socket").arg(cluster.socket(0));
    command.arg("--token").arg(setting.scratch.join("flood-token")).stdin(Stdio::null());
    setting.cores.on_client(|| Server::start(command, &setting.scratch.join("flood.log")))
}
