//! The figures of all rounds, their medians and ratios, and the files that keep them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::client::Work;
use super::html;
use super::machine::Machine;
use super::peers::{Kind, Peer};
use super::scenario::Scenario;
use super::tail::Tail;
use crate::error::Error;

/// Everything that one run of the benchmark found.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) when: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: u16,
    pub(crate) seconds: u16,
    /// Handshakes under way at a time.
    pub(crate) concurrency: u16,
    pub(crate) comparisons: Vec<Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tail: Option<Tail>,
}

/// What came of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
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
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) done: f64,
    pub(crate) per_second: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) per_cpu_second: f64,
    pub(crate) parts: Vec<Part>,
    pub(crate) latency: Option<Latency>,
}

/// What one program of a server used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) program: &'static str,
    pub(crate) cpu_seconds: f64,
}

/// Milliseconds from the beginning of a piece of work to its end.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

/// Our work per CPU-second divided by another's of the same round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) to: &'static str,
    pub(crate) goal: Option<f64>,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    pub(crate) fn new(work: &Work, parts: Vec<(&'static str, Duration)>) -> Self {
        let cpu_seconds = parts.iter().map(|(_, cpu)| cpu.as_secs_f64()).sum::<f64>();
        let share = |of: f64| if of > 0.0 { work.done / of } else { 0.0 };
        Self {
            done: round(work.done, 1),
            per_second: round(share(work.seconds), 1),
            cpu_seconds: round(cpu_seconds, 4),
            per_cpu_second: round(share(cpu_seconds), 1),
            parts: parts
                .into_iter()
                .map(|(program, cpu)| Part { program, cpu_seconds: round(cpu.as_secs_f64(), 4) })
                .collect(),
            latency: work.latency,
        }
    }
}

impl ServerResults {
    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.median_of(|figure| Some(figure.per_cpu_second)).unwrap_or_default()
    }

    /// None if no round has it.
    pub(crate) fn median_of(&self, of: impl Fn(&Figure) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| median(values))
    }

    /// CPU-microseconds that one piece of work takes of each program.
    pub(crate) fn costs(&self) -> Vec<(&'static str, f64)> {
        let Some(first) = self.rounds.first() else { return Vec::new() };
        (0..first.parts.len())
            .map(|index| {
                let cost = |figure: &Figure| {
                    figure
                        .parts
                        .get(index)
                        .filter(|_| figure.done > 0.0)
                        .map(|part| part.cpu_seconds * 1e6 / figure.done)
                };
                (first.parts[index].program, self.median_of(cost).unwrap_or_default())
            })
            .collect()
    }
}

impl Comparison {
    pub(crate) fn new<'a>(scenario: &Scenario, peers: impl Iterator<Item = &'a Peer>) -> Self {
        let servers = peers
            .map(|peer| {
                let (processes, threads) = peer.census().unwrap_or_default();
                let (kind, name, version) = (peer.kind(), peer.name(), peer.version().to_owned());
                ServerResults { kind, name, version, processes, threads, rounds: Vec::new() }
            })
            .collect();
        let (name, title, unit) = (scenario.name, scenario.title, scenario.unit.name());
        Self { name, title, unit, servers, ratios: Vec::new() }
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, scenario: &Scenario, kind: Kind, figure: Figure) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.kind == kind) {
            server.rounds.push(figure);
        }
        self.ratios = ratios(scenario, &self.servers);
    }

    /// For the terminal.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{}\n{:<28} {:>14} {:>10} {:>12} {:>12}\n",
            self.title, self.unit, "per CPU-second", "per second", "p50", "p99"
        );
        for server in &self.servers {
            let latency = |of: fn(&Latency) -> f64| {
                let median = server.median_of(|figure| figure.latency.as_ref().map(of));
                median.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms"))
            };
            let _infallible = writeln!(
                text,
                "{:<28} {:>14.0} {:>10.0} {:>12} {:>12}",
                server.name,
                server.per_cpu_second(),
                server.median_of(|figure| Some(figure.per_second)).unwrap_or_default(),
                latency(|latency| latency.p50_ms),
                latency(|latency| latency.p99_ms)
            );
        }
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
}

impl Results {
    /// Writes JSON for the record, dated, and a page for the eye, both named after the work; gives their paths.
    pub(crate) fn write(&self, work: &str, directory: &Path) -> Result<[PathBuf; 2], Error> {
        std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
        let json = directory.join(format!("{work}-{}.json", self.when.replace([':', '-'], "")));
        let page = directory.join(format!("{work}.html"));
        let mut text = serde_json::to_string_pretty(self).map_err(std::io::Error::from)?;
        text.push('\n');
        std::fs::write(&json, text).map_err(Error::file(&json))?;
        std::fs::write(&page, html::page(self, work)).map_err(Error::file(&page))?;
        Ok([json, page])
    }
}

/// Writes a report that has no page, under this name.
pub(super) fn write_json(directory: &Path, name: &str, report: &impl Serialize) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
    let file = directory.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(report).map_err(std::io::Error::from)?;
    std::fs::write(&file, text + "\n").map_err(Error::file(&file))?;
    println!("written: {}", file.display());
    Ok(())
}

fn ratios(scenario: &Scenario, servers: &[ServerResults]) -> Vec<Ratio> {
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
                goal: scenario.goal(other.kind),
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

pub(super) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

pub(super) fn now() -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::super::scenario::HANDSHAKES;
    use super::*;

    pub(crate) fn sample() -> Results {
        let figure = |per_cpu_second: f64| Figure {
            done: 100.0,
            per_second: per_cpu_second,
            cpu_seconds: 1.0,
            per_cpu_second,
            parts: vec![
                Part { program: "proxy", cpu_seconds: 0.75 },
                Part { program: "engine", cpu_seconds: 0.25 },
            ],
            latency: Some(Latency { p50_ms: 3.0, p90_ms: 5.0, p99_ms: 9.0, p999_ms: 12.0 }),
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
        let scenario = &HANDSHAKES[0];
        Results {
            when: "2026-01-02T03:04:05Z".to_owned(),
            machine: super::super::machine::describe(Path::new("/")),
            rounds: 3,
            seconds: 1,
            concurrency: 16,
            comparisons: vec![Comparison {
                name: scenario.name,
                title: scenario.title,
                unit: scenario.unit.name(),
                ratios: ratios(scenario, &servers),
                servers,
            }],
            tail: None,
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let results = sample();
        let comparison = &results.comparisons[0];
        let [in_process, nginx] = &comparison.ratios[..] else { panic!("two others") };
        assert_eq!((in_process.least, in_process.median, in_process.most), (0.88, 0.9, 0.92));
        assert_eq!((nginx.least, nginx.median, nginx.most), (1.8, 2.0, 2.3));
        let table = comparison.table();
        assert!(
            table.contains("0.90 times the same, key in process (0.88 to 0.92): BELOW the goal of 1.00"),
            "{table}"
        );
    }

    #[test]
    fn a_programs_cost_is_that_of_a_piece_of_work() {
        let costs = sample().comparisons[0].servers[0].costs();
        assert_eq!(costs, [("proxy", 7500.0), ("engine", 2500.0)]);
    }

    #[test]
    fn what_is_measured_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [json, page] = sample().write("handshakes", directory.path()).unwrap();
        assert!(json.ends_with("handshakes-20260102T030405Z.json"));
        let kept: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!(kept["comparisons"][0]["servers"][2]["rounds"][1]["per_cpu_second"], 2000.0);
        assert!(page.exists());
    }

    #[test]
    fn medians_of_few() {
        assert_eq!((median(vec![]), median(vec![2.0]), median(vec![3.0, 1.0])), (0.0, 2.0, 2.0));
    }
}
