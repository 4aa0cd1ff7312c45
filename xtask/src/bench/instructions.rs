//! `cargo xtask bench instructions`: what each operation costs the proxy and the engine in instructions, by callgrind, compared
//! with what it cost when the baseline was written. Time on a shared machine drifts; instructions hardly do.
//!
//! A load of one length is taken off one of another, so that start, connections' ends and whatever comes once cancel out. The
//! kernel's instructions are not counted, nor waiting. callgrind knows no AVX-512, so that signatures take other code than they
//! otherwise do on processors that have it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::Bench;
use super::cores::{Cores, version_of};
use super::peers::{Peer, Setting, Stage};
use super::scenario::Site;
use crate::error::Error;
use crate::process::{find, output_of};
use crate::tools;

/// What a figure may be above the baseline's: scheduling and hash seeds move it by less.
const TOLERANCE: f64 = 0.05;

/// Below the root of the repository.
const BASELINE: &str = "loadtest/instructions.json";

/// One kind of work, by a client that is told how often.
struct Operation {
    name: &'static str,
    load: Load,
    /// How often in the short load and in the long one.
    lengths: [u32; 2],
}

enum Load {
    Handshakes { site: Site, resume: bool },
    Requests { options: &'static [&'static str] },
}

const OPERATIONS: [Operation; 5] = [
    Operation::handshakes("full handshake, P-256", Site::P256, false, [100, 400]),
    Operation::handshakes("full handshake, RSA-2048", Site::Rsa2048, false, [20, 80]),
    Operation::handshakes("resumed handshake", Site::P256, true, [100, 400]),
    Operation::requests("HTTP/1.1 request", &["--h1", "-c", "1"]),
    Operation::requests("HTTP/2 request, 32 streams", &["-c", "1", "-m", "32"]),
];

impl Operation {
    const fn handshakes(name: &'static str, site: Site, resume: bool, lengths: [u32; 2]) -> Self {
        Self { name, load: Load::Handshakes { site, resume }, lengths }
    }

    const fn requests(name: &'static str, options: &'static [&'static str]) -> Self {
        Self { name, load: Load::Requests { options }, lengths: [200, 1200] }
    }
}

/// Instructions by operation and program.
type Figures = BTreeMap<String, BTreeMap<String, u64>>;

/// What figures are compared with, and what else they depend on.
#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    valgrind: String,
    compiler: String,
    operations: Figures,
}

pub(super) fn run(bench: &Bench, programs: &Path, root: &Path, cores: &Cores) -> Result<(), Error> {
    let valgrind = tools::valgrind()?;
    let stage = Stage::set(programs, cores)?;
    let setting = Setting { patient: true, valgrind: Some(valgrind.clone()), ..stage.setting() };
    let mut counted = Counted { peer: Peer::ours(&setting)?, home: setting.scratch.join("ours"), programs };
    let mut figures = Figures::new();
    for operation in &OPERATIONS {
        let each = counted.measure(operation, cores)?;
        let text: Vec<_> = each.iter().map(|(program, count)| format!("{program} {count}")).collect();
        println!("{}: {}", operation.name, text.join(", "));
        figures.insert(operation.name.to_owned(), each);
    }
    let path = root.join(BASELINE);
    let now = Baseline {
        valgrind: version_of(&valgrind, "--version"),
        compiler: version_of(Path::new("rustc"), "--version"),
        operations: figures,
    };
    if bench.accept {
        let text = serde_json::to_string_pretty(&now).map_err(std::io::Error::from)?;
        fs::write(&path, text + "\n").map_err(Error::file(&path))?;
        println!("written: {}", path.display());
        return Ok(());
    }
    let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
    let before: Baseline = serde_json::from_str(&text).map_err(std::io::Error::from)?;
    print!("\n{}", table(&before.operations, &now.operations));
    if (&before.valgrind, &before.compiler) != (&now.valgrind, &now.compiler) {
        println!("\nthe baseline is of {} and {}", before.valgrind, before.compiler);
    }
    let regressions = regressions(&before.operations, &now.operations);
    if regressions.is_empty() {
        return Ok(());
    }
    Err(Error::Regression { baseline: path, regressions: regressions.join("; ") })
}

/// A proxy and an engine whose instructions are counted.
struct Counted<'a> {
    peer: Peer,
    home: PathBuf,
    programs: &'a Path,
}

impl Counted<'_> {
    /// Instructions of one operation, by program.
    fn measure(&mut self, operation: &Operation, cores: &Cores) -> Result<BTreeMap<String, u64>, Error> {
        let [short, long] = operation.lengths;
        // Caches and pools are filled by the first.
        self.work(operation, short, cores)?;
        self.counts()?;
        self.work(operation, short, cores)?;
        let less = self.counts()?;
        self.work(operation, long, cores)?;
        let more = self.counts()?;
        self.peer.check()?;
        let each = |(program, less): (String, u64)| {
            let more = more.get(&program).copied().unwrap_or_default();
            (program, more.saturating_sub(less) / u64::from(long - short))
        };
        Ok(less.into_iter().map(each).collect())
    }

    fn work(&self, operation: &Operation, times: u32, cores: &Cores) -> Result<(), Error> {
        let (times, address) = (times.to_string(), self.peer.address());
        let command = match operation.load {
            Load::Handshakes { site, resume } => {
                let mut command = Command::new(self.programs.join("hsm-loadtest"));
                command.args([
                    "handshakes",
                    "--key-exchange",
                    "x25519",
                    "--tls",
                    "1.3",
                    "--concurrency",
                    "1",
                ]);
                command.args(["--count", &times, "--connect", &address.to_string(), "--json", "-"]);
                command.args(["--timeout", "60s", "--server-name", site.host(), "--ca"]).arg(self.peer.ca());
                command.args(resume.then_some("--resume"));
                command
            }
            Load::Requests { options } => {
                let mut command = Command::new(find("h2load").ok_or(Error::MissingTool("nghttp2-client"))?);
                command.args(["-n", &times]).args(options);
                command.arg(format!("https://{}:{}/small", Site::P256.host(), address.port()));
                command
            }
        };
        let text = cores.on_client(|| output_of(command))?;
        match operation.load {
            Load::Requests { .. } if !text.contains(&format!("{times} succeeded, 0 failed")) => {
                Err(Error::LoadReport(text))
            }
            _ => Ok(()),
        }
    }

    /// Instructions since the last time, by program.
    fn counts(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.peer
            .programs()
            .map(|(program, pid)| {
                let file = if program == "hsm-proxy" { "proxy.callgrind" } else { "engine.callgrind" };
                Ok((program.to_owned(), self.count(file, pid)?))
            })
            .collect()
    }

    /// Has callgrind write down what it counted since the last time, and begin anew.
    fn count(&self, file: &str, pid: Pid) -> Result<u64, Error> {
        let mut command = Command::new(find("vgdb").ok_or(Error::MissingTool("valgrind"))?);
        command.current_dir(&self.home).args(["--vgdb-prefix=../vgdb", "--wait=10", "--max-invoke-ms=100"]);
        command.arg(format!("--pid={}", pid.as_raw_nonzero())).arg("dump");
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            return Err(Error::Failed { what: "vgdb".to_owned(), status: output.status });
        }
        // Each dump has a number behind the name; it is read once.
        let prefix = format!("{file}.");
        let mut dumps: Vec<PathBuf> = fs::read_dir(&self.home)
            .map_err(Error::file(&self.home))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
            .collect();
        let Some(dump) = dumps.pop().filter(|_| dumps.is_empty()) else {
            return Err(Error::LoadReport(format!("callgrind wrote {} files {prefix}N", dumps.len() + 1)));
        };
        let text = fs::read_to_string(&dump).map_err(Error::file(&dump))?;
        fs::remove_file(&dump).map_err(Error::file(&dump))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok());
        total.ok_or_else(|| Error::LoadReport(format!("no total in {}", dump.display())))
    }
}

fn change(before: u64, now: u64) -> f64 {
    now as f64 / before.max(1) as f64 - 1.0
}

fn table(before: &Figures, now: &Figures) -> String {
    let mut text = "| operation | program | before | now | change |\n|---|---|---|---|---|\n".to_owned();
    for (operation, programs) in now {
        for (program, &count) in programs {
            let row = match before.get(operation).and_then(|programs| programs.get(program)) {
                Some(&before) => format!("{before} | {count} | {:+.1} %", change(before, count) * 100.0),
                None => format!("| {count} |"),
            };
            text += &format!("| {operation} | {program} | {row} |\n");
        }
    }
    text
}

/// What became dearer. Programs that an operation hardly concerns are left out: a timer would be a regression.
fn regressions(before: &Figures, now: &Figures) -> Vec<String> {
    const LEAST: u64 = 10_000;
    let mut regressions = Vec::new();
    for (operation, programs) in before {
        for (program, &before) in programs {
            let Some(&now) = now.get(operation).and_then(|programs| programs.get(program)) else { continue };
            let change = change(before, now);
            if before.max(now) >= LEAST && change > TOLERANCE {
                regressions.push(format!("{operation}, {program}: {:+.1} %", change * 100.0));
            }
        }
    }
    regressions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(count: u64) -> Figures {
        let programs = [("hsm-proxy".to_owned(), count), ("hsm-engine".to_owned(), 10)];
        Figures::from([("a request".to_owned(), programs.into())])
    }

    #[test]
    fn more_than_the_tolerance_is_a_regression() {
        let before = figures(100_000);
        for (now, regresses) in [(50_000, false), (104_900, false), (105_100, true)] {
            assert_eq!(!regressions(&before, &figures(now)).is_empty(), regresses, "{now}");
        }
        let mut idle = figures(100_000);
        idle.values_mut().for_each(|programs| *programs.get_mut("hsm-engine").unwrap() = 1_000);
        assert!(regressions(&before, &idle).is_empty());
        idle.values_mut().for_each(|programs| *programs.get_mut("hsm-engine").unwrap() = 10_000);
        assert_eq!(regressions(&before, &idle).len(), 1, "what was nothing is something now");
        assert!(table(&before, &figures(110_000)).contains("| 100000 | 110000 | +10.0 % |"));
    }
}
