//! One measurement: the client's report and the server's CPU time around it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::cores::Cores;
use super::figures::{Figure, Latency};
use super::peers::Peer;
use super::scenario::{Driver, Scenario, Unit};
use crate::error::Error;
use crate::process::find;

/// Seconds before anything is counted: caches, connections to engines and allocators are warm then.
const WARM_UP: u16 = 1;

/// Handshakes of which hsm-loadtest verifies one signature. With all of them it can't keep the fastest server busy, which then sleeps and
/// wakes for each message. No server knows which it will be.
const VERIFY_ONE_IN: u32 = 16;

/// Handshakes under way at most when they begin at appointed times. Those that are due meanwhile begin later, and are charged for it; more at a time
/// would be more than `limits.signature-queue` lets wait.
const AT_APPOINTED_TIMES: &str = "1000";

/// What wrk says at its end, as one line of JSON.
const WRK_SUMMARY: &str = r#"done = function(s, l, r)
  local e = s.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"seconds":%f,"failed":%d,"p50":%f,"p90":%f,"p99":%f,"p999":%f}\n',
    s.requests, s.bytes, s.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    l:percentile(50) / 1e3, l:percentile(90) / 1e3, l:percentile(99) / 1e3, l:percentile(99.9) / 1e3))
end
"#;

/// The programs that make work, on a core of their own.
pub(crate) struct Client<'a> {
    loadtest: PathBuf,
    wrk_script: PathBuf,
    concurrency: u16,
    cores: &'a Cores,
}

/// What a client counted, and how long that took it.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) done: f64,
    pub(crate) seconds: f64,
    /// h2load gives no percentiles.
    pub(crate) latency: Option<Latency>,
}

impl<'a> Client<'a> {
    /// `programs` holds hsm-loadtest; `scratch` is for files of its own.
    pub(crate) fn new(
        programs: &Path,
        scratch: &Path,
        concurrency: u16,
        cores: &'a Cores,
    ) -> Result<Self, Error> {
        let wrk_script = scratch.join("summary.lua");
        std::fs::write(&wrk_script, WRK_SUMMARY).map_err(Error::file(&wrk_script))?;
        Ok(Self { loadtest: programs.join("hsm-loadtest"), wrk_script, concurrency, cores })
    }

    pub(crate) fn warm_up(&self, scenario: &Scenario, peer: &mut Peer) -> Result<(), Error> {
        self.work(scenario, peer, WARM_UP).map(|_report| ())
    }

    pub(crate) fn measure(
        &self,
        scenario: &Scenario,
        peer: &mut Peer,
        seconds: u16,
    ) -> Result<Figure, Error> {
        let before = peer.cpu_times()?;
        let work = self.work(scenario, peer, seconds)?;
        let after = peer.cpu_times()?;
        peer.check()?;
        let parts = after
            .into_iter()
            .zip(before)
            .map(|((name, after), (_, before))| (name, after.saturating_sub(before)));
        Ok(Figure::new(&work, parts.collect()))
    }

    /// Begins handshakes at appointed times, whatever the server does.
    pub(crate) fn start_at_rate(
        &self,
        scenario: &Scenario,
        peer: &mut Peer,
        rate: f64,
        seconds: u16,
    ) -> Result<Load, Error> {
        let mut command = self.loadtest(scenario, peer, seconds)?;
        command.args(["--rate", &format!("{rate:.0}"), "--concurrency", AT_APPOINTED_TIMES]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = self.cores.on_client(|| {
            command.spawn().map_err(|source| Error::Start { program: "hsm-loadtest".to_owned(), source })
        })?;
        Ok(Load { child: Some(child) })
    }

    fn work(&self, scenario: &Scenario, peer: &mut Peer, seconds: u16) -> Result<Work, Error> {
        peer.check()?;
        match scenario.driver {
            Driver::Handshakes { .. } => {
                let mut command = self.loadtest(scenario, peer, seconds)?;
                command.args(["--concurrency", &self.concurrency.to_string()]);
                handshakes(peer, &self.output(command)?)
            }
            Driver::Wrk { path, connections } => self.wrk(scenario, peer, seconds, path, connections),
            Driver::H2load { path, connections, streams } => {
                let mut command = Command::new(find("h2load").ok_or(Error::MissingTool("nghttp2-client"))?);
                command.args(["-D", &seconds.to_string(), "-t", "1", "-c", &connections.to_string()]);
                command.args(["-m", &streams.to_string()]).arg(url(scenario, peer, path));
                let text = self.output(command)?;
                let report = h2load(&text).ok_or_else(|| Error::LoadReport(text.clone()))?;
                counted(peer, report.failed, "h2load says no more")?;
                Ok(Work { done: report.succeeded, seconds: f64::from(seconds), latency: None })
            }
        }
    }

    /// The same client for everybody: one version, one group. In TLS 1.2 that is P-256, since OpenSSL wants the client to know
    /// the curve of the certificate, too.
    fn loadtest(&self, scenario: &Scenario, peer: &Peer, seconds: u16) -> Result<Command, Error> {
        let Driver::Handshakes { tls, resume } = scenario.driver else {
            return Err(Error::LoadReport(format!("{} has no handshakes", scenario.name)));
        };
        let group = if tls == "1.2" { "secp256r1" } else { "x25519" };
        let mut command = Command::new(&self.loadtest);
        command
            .args(["handshakes", "--key-exchange", group, "--json", "-", "--tls", tls])
            .args(["--connect", &peer.address().to_string(), "--server-name", scenario.site.host()])
            .args(["--verify-one-in", &VERIFY_ONE_IN.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--ca"])
            .arg(peer.ca());
        if resume {
            command.arg("--resume");
        }
        Ok(command)
    }

    fn wrk(
        &self,
        scenario: &Scenario,
        peer: &mut Peer,
        seconds: u16,
        path: &str,
        connections: u16,
    ) -> Result<Work, Error> {
        let mut command = Command::new(find("wrk").ok_or(Error::MissingTool("wrk"))?);
        command.args([
            "-t",
            "1",
            "-c",
            &connections.to_string(),
            "-d",
            &format!("{seconds}s"),
            "--timeout",
            "30s",
            "-s",
        ]);
        command.arg(&self.wrk_script).arg(url(scenario, peer, path));
        let text = self.output(command)?;
        let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_default();
        let report: Value =
            serde_json::from_str(line).map_err(|error| Error::LoadReport(format!("{error}: {text}")))?;
        counted(peer, number(&report, "failed")?, "wrk says no more")?;
        Ok(Work {
            done: match scenario.unit {
                Unit::Megabytes => number(&report, "bytes")? / 1e6,
                _ => number(&report, "requests")?,
            },
            seconds: number(&report, "seconds")?,
            latency: Some(Latency {
                p50_ms: number(&report, "p50")?,
                p90_ms: number(&report, "p90")?,
                p99_ms: number(&report, "p99")?,
                p999_ms: number(&report, "p999")?,
            }),
        })
    }

    fn output(&self, mut command: Command) -> Result<String, Error> {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let program = command.get_program().to_string_lossy().into_owned();
        let output = self.cores.on_client(|| {
            command.output().map_err(|source| Error::Start { program: program.clone(), source })
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.trim().is_empty() {
            return Err(Error::LoadReport(format!(
                "{program} said nothing; it ended with {}",
                output.status
            )));
        }
        Ok(text)
    }
}

/// A load under way; broken off when dropped.
pub(crate) struct Load {
    child: Option<Child>,
}

impl Load {
    /// Waits for its end.
    pub(crate) fn finish(mut self, peer: &Peer) -> Result<Work, Error> {
        let child = self.child.take().ok_or_else(|| Error::LoadReport("it is over".to_owned()))?;
        handshakes(peer, &String::from_utf8_lossy(&child.wait_with_output()?.stdout))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// What hsm-loadtest reports.
fn handshakes(peer: &Peer, text: &str) -> Result<Work, Error> {
    let report: Value = serde_json::from_str(text).map_err(|error| Error::LoadReport(error.to_string()))?;
    counted(peer, number(&report, "failed")?, &report["failures"].to_string())?;
    let latency = &report["latency_ms"];
    Ok(Work {
        done: number(&report, "handshakes")?,
        seconds: number(&report, "seconds")?,
        latency: Some(Latency {
            p50_ms: number(latency, "p50")?,
            p90_ms: number(latency, "p90")?,
            p99_ms: number(latency, "p99")?,
            p999_ms: number(latency, "p999")?,
        }),
    })
}

fn url(scenario: &Scenario, peer: &Peer, path: &str) -> String {
    format!("https://{}:{}{path}", scenario.site.host(), peer.address().port())
}

fn number(value: &Value, name: &str) -> Result<f64, Error> {
    value[name].as_f64().ok_or_else(|| Error::LoadReport(format!("no {name} in it")))
}

/// A single failure makes a round worthless.
fn counted(peer: &Peer, failed: f64, reasons: &str) -> Result<(), Error> {
    if failed > 0.0 {
        let (name, reasons) = (peer.name().to_owned(), reasons.to_owned());
        return Err(Error::FailedRound { name, failed, reasons });
    }
    Ok(())
}

struct H2load {
    succeeded: f64,
    failed: f64,
}

/// `requests: 1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout`
fn h2load(text: &str) -> Option<H2load> {
    let line = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let of =
        |what: &str| line.split(", ").find_map(|part| part.strip_suffix(what)?.trim().parse::<f64>().ok());
    Some(H2load { succeeded: of("succeeded")?, failed: of("failed")? + of("errored")? + of("timeout")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_says_is_read() {
        let text = "finished in 5.00s, 1 req/s\nrequests: 12 total, 12 started, 11 done, 10 succeeded, 1 failed, 0 errored, 1 timeout\nstatus codes: 10 2xx\n";
        let report = h2load(text).unwrap();
        assert_eq!((report.succeeded, report.failed), (10.0, 2.0));
        assert!(h2load("nothing").is_none());
    }
}
