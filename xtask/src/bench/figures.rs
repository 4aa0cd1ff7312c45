//! The figures of all rounds, their medians and ratios, and the files that keep them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

use super::Bench;
use super::html;
use super::machine::Machine;
use super::peers::{Kind, Peer};
use crate::error::Error;

/// Everything that one run of the benchmark found.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) work: &'static str,
    pub(crate) when: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: u16,
    pub(crate) seconds: u16,
    pub(crate) concurrency: u16,
    pub(crate) servers: Vec<ServerResults>,
    pub(crate) ratios: Vec<Ratio>,
}

/// One server's figures, round by round.
#[derive(Debug, Serialize)]
pub(crate) struct ServerResults {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) processes: usize,
    pub(crate) threads: usize,
    pub(crate) rounds: Vec<Figure>,
}

/// One server in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) handshakes: u64,
    pub(crate) per_second: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) per_cpu_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Our handshakes per CPU-second divided by another's of the same round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) to: &'static str,
    pub(crate) goal: Option<f64>,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    pub(crate) fn new(report: &Value, cpu: Duration) -> Result<Self, Error> {
        let number = |value: &Value, name: &str| {
            value.as_f64().ok_or_else(|| Error::LoadReport(format!("no {name} in it")))
        };
        let handshakes = report["handshakes"]
            .as_u64()
            .ok_or_else(|| Error::LoadReport("no handshakes in it".to_owned()))?;
        let cpu_seconds = cpu.as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        let per_cpu_second = if cpu_seconds > 0.0 { handshakes as f64 / cpu_seconds } else { 0.0 };
        Ok(Self {
            handshakes,
            per_second: number(&report["rate"], "rate")?,
            cpu_seconds: round(cpu_seconds, 4),
            per_cpu_second: round(per_cpu_second, 1),
            p50_ms: number(&report["latency_ms"]["p50"], "p50")?,
            p99_ms: number(&report["latency_ms"]["p99"], "p99")?,
        })
    }
}

impl ServerResults {
    pub(crate) fn per_cpu_second(&self) -> f64 {
        median(self.rounds.iter().map(|figure| figure.per_cpu_second).collect())
    }

    fn median_of(&self, of: impl Fn(&Figure) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

impl Results {
    pub(crate) fn new(bench: &Bench, peers: &[Peer], machine: Machine) -> Self {
        let servers = peers
            .iter()
            .map(|peer| {
                let (processes, threads) = peer.census().unwrap_or_default();
                let (kind, name, version) = (peer.kind(), peer.name(), peer.version().to_owned());
                ServerResults { kind, name, version, processes, threads, rounds: Vec::new() }
            })
            .collect();
        Self {
            work: "full TLS 1.3 handshakes, ECDSA P-256, X25519, no resumption",
            when: now(),
            machine,
            rounds: bench.rounds,
            seconds: bench.seconds,
            concurrency: bench.handshakes_at_a_time(),
            servers,
            ratios: Vec::new(),
        }
    }

    /// Adds a figure of the server at `index`.
    pub(crate) fn add(&mut self, index: usize, figure: Figure) {
        if let Some(server) = self.servers.get_mut(index) {
            server.rounds.push(figure);
        }
        self.ratios = ratios(&self.servers);
    }

    /// For the terminal.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{} at a time; medians of {} rounds of {} s; {}\n\n{:<28} {:>14} {:>10} {:>9} {:>9}\n",
            self.concurrency,
            self.rounds,
            self.seconds,
            self.work,
            "",
            "per CPU-second",
            "per second",
            "p50",
            "p99"
        );
        for server in &self.servers {
            let _infallible = writeln!(
                text,
                "{:<28} {:>14.0} {:>10.0} {:>6.2} ms {:>6.2} ms",
                server.name,
                server.per_cpu_second(),
                server.median_of(|figure| figure.per_second),
                server.median_of(|figure| figure.p50_ms),
                server.median_of(|figure| figure.p99_ms)
            );
        }
        text.push('\n');
        for Ratio { to, goal, median, least, most } in &self.ratios {
            let _infallible = write!(text, "{median:.2} times {to} ({least:.2} to {most:.2})");
            let verdict = match goal {
                Some(goal) if median >= goal => format!(": the goal of {goal:.2} is met"),
                Some(goal) => format!(": BELOW the goal of {goal:.2}"),
                None => String::new(),
            };
            text.push_str(&verdict);
            text.push('\n');
        }
        text
    }

    /// Writes JSON for the record, dated, and a page for the eye; gives their paths.
    pub(crate) fn write(&self, directory: &Path) -> Result<[PathBuf; 2], Error> {
        std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
        let json = directory.join(format!("handshakes-{}.json", self.when.replace([':', '-'], "")));
        let page = directory.join("handshakes.html");
        let mut text = serde_json::to_string_pretty(self).map_err(std::io::Error::from)?;
        text.push('\n');
        std::fs::write(&json, text).map_err(Error::file(&json))?;
        std::fs::write(&page, html::page(self)).map_err(Error::file(&page))?;
        Ok([json, page])
    }
}

fn ratios(servers: &[ServerResults]) -> Vec<Ratio> {
    let Some((ours, others)) = servers.split_first() else { return Vec::new() };
    others
        .iter()
        .filter_map(|other| {
            // Round by round: neighbours in time had the same machine.
            let each: Vec<f64> = ours
                .rounds
                .iter()
                .zip(&other.rounds)
                .filter(|(_, theirs)| theirs.per_cpu_second > 0.0)
                .map(|(mine, theirs)| mine.per_cpu_second / theirs.per_cpu_second)
                .collect();
            let least = each.iter().copied().reduce(f64::min)?;
            let most = each.iter().copied().reduce(f64::max)?;
            Some(Ratio {
                to: other.name,
                goal: other.kind.goal(),
                median: round(median(each), 3),
                least: round(least, 3),
                most: round(most, 3),
            })
        })
        .collect()
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

pub(super) fn now() -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Results {
        let figure = |per_cpu_second| Figure {
            handshakes: 100,
            per_second: per_cpu_second,
            cpu_seconds: 1.0,
            per_cpu_second,
            p50_ms: 3.0,
            p99_ms: 9.0,
        };
        let server = |kind: Kind, rates: [f64; 3]| ServerResults {
            kind,
            name: kind.name(),
            version: "1 <2>".to_owned(),
            processes: 1,
            threads: 1,
            rounds: rates.map(figure).to_vec(),
        };
        let servers = vec![
            server(Kind::Ours, [4500.0, 4600.0, 4400.0]),
            server(Kind::InProcess, [5000.0, 5000.0, 5000.0]),
            server(Kind::Nginx, [2500.0, 2000.0, 2200.0]),
        ];
        Results {
            work: "handshakes",
            when: "2026-01-02T03:04:05Z".to_owned(),
            machine: super::super::machine::describe(Path::new("/")),
            rounds: 3,
            seconds: 1,
            concurrency: 16,
            ratios: ratios(&servers),
            servers,
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let results = sample();
        let [in_process, nginx] = &results.ratios[..] else { panic!("two others") };
        assert_eq!((in_process.least, in_process.median, in_process.most), (0.88, 0.9, 0.92));
        assert_eq!((nginx.least, nginx.median, nginx.most), (1.8, 2.0, 2.3));
        let table = results.table();
        assert!(
            table.contains("0.90 times the same, key in process (0.88 to 0.92): the goal of 0.90 is met"),
            "{table}"
        );
    }

    #[test]
    fn what_is_measured_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [json, page] = sample().write(directory.path()).unwrap();
        assert!(json.ends_with("handshakes-20260102T030405Z.json"));
        let kept: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!(kept["servers"][2]["rounds"][1]["per_cpu_second"], 2000.0);
        assert!(page.exists());
    }

    #[test]
    fn medians_of_few() {
        assert_eq!((median(vec![]), median(vec![2.0]), median(vec![3.0, 1.0])), (0.0, 2.0, 2.0));
    }
}
