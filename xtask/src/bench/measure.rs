//! One measurement: the client's report and the server's CPU time around it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::cores::{Cores, cpu_time};
use super::figures::Figure;
use super::peers::Peer;
use crate::error::Error;

/// Handshakes before anything is counted: caches, connections to engines and allocators are warm then.
const WARM_UP: u64 = 1000;

/// hsm-loadtest, on its own core.
pub(crate) struct Client<'a> {
    pub(crate) program: PathBuf,
    pub(crate) seconds: u16,
    pub(crate) concurrency: u16,
    pub(crate) cores: &'a Cores,
}

impl Client<'_> {
    pub(crate) fn warm_up(&self, peer: &mut Peer) -> Result<(), Error> {
        self.run(peer, &["--count", &WARM_UP.to_string()]).map(|_report| ())
    }

    pub(crate) fn measure(&self, peer: &mut Peer) -> Result<Figure, Error> {
        let before = cpu_time(peer.pid())?;
        let report = self.run(peer, &["--duration", &format!("{}s", self.seconds)])?;
        let cpu = cpu_time(peer.pid())?.saturating_sub(before);
        peer.check()?;
        Figure::new(&report, cpu)
    }

    /// The same client for everybody: TLS 1.3, X25519 only, no resumption.
    fn run(&self, peer: &mut Peer, extent: &[&str]) -> Result<Value, Error> {
        peer.check()?;
        let mut command = Command::new(&self.program);
        command
            .args(["handshakes", "--tls", "1.3", "--key-exchange", "x25519", "--json", "-"])
            .args(["--connect", &peer.address().to_string()])
            .args(["--concurrency", &self.concurrency.to_string()])
            .arg("--ca")
            .arg(peer.ca())
            .args(extent)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let output = self.cores.on_client(|| {
            command
                .output()
                .map_err(|source| Error::Start { program: self.program.display().to_string(), source })
        })?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Error::LoadReport(format!("{error}; it ended with {}", output.status)))?;
        let failed =
            report["failed"].as_u64().ok_or_else(|| Error::LoadReport("no count of failures".to_owned()))?;
        if failed > 0 || !output.status.success() {
            let (name, reasons) = (peer.name().to_owned(), report["failures"].to_string());
            return Err(Error::FailedHandshakes { name, failed, reasons });
        }
        Ok(report)
    }
}
