//! `cargo xtask scan`: what scanners say of the TLS that a browser meets.
//!
//! Engines and proxies are started as an operator would; each scanner looks at one of them at a time, as it would from the Internet. A finding of
//! medium severity or worse fails the task, unless a line of [`ALLOWED`] says whose it is.

mod front;
mod sslyze;
mod testssl;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::cargo::Workspace;
use crate::error::Error;
use crate::tools;
use front::Front;
use sslyze::Sslyze;

/// Scans the TLS of a proxy with testssl.sh and sslyze. Takes five minutes or more.
#[derive(Args)]
pub(crate) struct Scan {
    /// Scan only these.
    #[arg(long, value_enum, value_name = "TARGET")]
    target: Vec<Target>,
    /// Ask only this scanner.
    #[arg(long, value_enum, value_name = "SCANNER")]
    scanner: Option<Scanner>,
    /// Scan the programs of this directory instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// A proxy with one site.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Target {
    /// `preset = "intermediate"`, ECDSA on P-256.
    Ecdsa,
    /// `preset = "intermediate"`, RSA of 2,048 bits.
    Rsa,
    /// `preset = "modern"`, ECDSA on P-256.
    Modern,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Scanner {
    /// testssl.sh, Debian's.
    Testssl,
    /// sslyze, from PyPI.
    Sslyze,
}

/// How bad a finding is, in the words of testssl.sh.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "UPPERCASE")]
enum Severity {
    Debug,
    Ok,
    Info,
    /// The check could not be made.
    Warn,
    Low,
    Medium,
    High,
    Critical,
    /// The scan ended.
    Fatal,
}

/// One result of a scanner.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
struct Finding {
    id: String,
    severity: Severity,
    finding: String,
}

/// What one scanner says of one target.
struct Report {
    target: Target,
    scanner: Scanner,
    findings: Vec<Finding>,
}

/// Findings that are not the proxy's: by whom, of what (an `id`'s beginning), and why.
const ALLOWED: [(Scanner, &str, &str); 0] = [];

/// What runs.
const PACKAGES: [&str; 3] = ["hsm-proxy", "hsm-engine", "hsm-cli"];

impl Scan {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let workspace = Workspace::find()?;
        let programs = match &self.programs {
            Some(programs) => programs.clone(),
            None => {
                workspace.build(&PACKAGES)?;
                workspace.debug()
            }
        };
        let wants = |scanner| self.scanner.is_none_or(|only| only == scanner);
        let testssl = if wants(Scanner::Testssl) { Some(tools::testssl()?) } else { None };
        let sslyze = if wants(Scanner::Sslyze) { Sslyze::provide(&workspace.scan())? } else { None };

        let front = Front::start(&programs)?;
        let mut reports = Vec::new();
        for target in Target::value_variants() {
            if !self.target.is_empty() && !self.target.contains(target) {
                continue;
            }
            if let Some(program) = &testssl {
                println!("xtask: testssl.sh looks at {}; this takes minutes", target.name());
                let findings = testssl::scan(program, &workspace.scan(), &front, *target)?;
                reports.push(Report { target: *target, scanner: Scanner::Testssl, findings });
            }
            if let Some(sslyze) = &sslyze {
                println!("xtask: sslyze looks at {}", target.name());
                let findings = sslyze.scan(&front, *target)?;
                reports.push(Report { target: *target, scanner: Scanner::Sslyze, findings });
            }
        }
        drop(front);
        judge(&reports)
    }
}

/// Prints what was found; an error if some of it is the proxy's.
fn judge(reports: &[Report]) -> Result<(), Error> {
    println!("\n{:<8} {:<8} {:>7} {:>4} {:>4} {:>4}", "target", "scanner", "results", "low", "warn", "bad");
    for report in reports {
        let count = |severities: &[Severity]| {
            report.findings.iter().filter(|finding| severities.contains(&finding.severity)).count()
        };
        println!(
            "{:<8} {:<8} {:>7} {:>4} {:>4} {:>4}",
            report.target.name(),
            report.scanner.name(),
            report.findings.len(),
            count(&[Severity::Low]),
            count(&[Severity::Warn]),
            report.bad().count(),
        );
    }
    println!();
    let mut unexplained = 0;
    for report in reports {
        let notable = report.findings.iter().filter(|finding| finding.severity >= Severity::Warn);
        for Finding { id, severity, finding } in notable {
            let (target, scanner) = (report.target.name(), report.scanner.name());
            let allowed = allowed(report.scanner, id);
            unexplained += usize::from(*severity >= Severity::Medium && allowed.is_none());
            let why = allowed.map(|why| format!(" [allowed: {why}]")).unwrap_or_default();
            println!("{target} {scanner} {severity:?} {id}: {finding}{why}");
        }
    }
    if unexplained == 0 { Ok(()) } else { Err(Error::Findings(unexplained)) }
}

/// Where a report goes; without the one from before, which a scanner would not replace.
fn report_file(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
    let file = directory.join(name);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file(&file)(error)),
        _ => Ok(file),
    }
}

/// Why such a finding is no fault.
fn allowed(scanner: Scanner, id: &str) -> Option<&'static str> {
    let line = ALLOWED.iter().find(|(of, begins, _)| *of == scanner && id.starts_with(begins));
    line.map(|(_, _, why)| *why)
}

impl Report {
    /// Of medium severity or worse.
    fn bad(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity >= Severity::Medium)
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
            Self::Modern => "modern",
        }
    }

    /// Of `tls.preset`, and of Mozilla's guidelines.
    fn preset(self) -> &'static str {
        match self {
            Self::Ecdsa | Self::Rsa => "intermediate",
            Self::Modern => "modern",
        }
    }
}

impl Scanner {
    fn name(self) -> &'static str {
        match self {
            Self::Testssl => "testssl",
            Self::Sslyze => "sslyze",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(severity: Severity) -> Report {
        let finding = Finding { id: "SWEET32".to_owned(), severity, finding: "VULNERABLE".to_owned() };
        Report { target: Target::Ecdsa, scanner: Scanner::Testssl, findings: vec![finding] }
    }

    #[test]
    fn what_is_medium_or_worse_fails_and_what_is_less_does_not() {
        for severity in [Severity::Ok, Severity::Info, Severity::Warn, Severity::Low] {
            assert!(judge(&[report(severity)]).is_ok(), "{severity:?}");
        }
        for severity in [Severity::Medium, Severity::High, Severity::Critical, Severity::Fatal] {
            assert!(matches!(judge(&[report(Severity::Ok), report(severity)]), Err(Error::Findings(1))));
        }
    }
}
