//! One engine of a benchmark: a supervisor with one replica in a directory of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::cores::Cores;
use crate::engine_directory::EngineDirectory;
use crate::error::Error;
use crate::process::Server;

/// Of all users. Nothing here is secret: the cluster lives in a temporary directory for as long as the benchmark.
pub(super) const PASSWORD: &str = "the benchmark's password";

/// A directory in memory, where there is such a file system: for what is not measured by the speed of a disk.
pub(super) fn memory_directory() -> Result<TempDir, Error> {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    Ok(tempfile::Builder::new().prefix("hsm-bench-").tempdir_in(base)?)
}

/// Where an engine keeps its state, and the programs that it is measured with.
pub(super) struct EnginePlace {
    directory: EngineDirectory,
    programs: PathBuf,
}

impl EnginePlace {
    /// Writes what an engine needs to start in `directory`, which must exist.
    pub(super) fn prepare(directory: &Path, programs: &Path, settings: &str) -> Result<Self, Error> {
        let directory = EngineDirectory::at(directory);
        directory.prepare(&format!("replicas = 1\nworker-threads = 2\n{settings}"))?;
        Ok(Self { directory, programs: programs.to_owned() })
    }

    /// Length of the store's database.
    pub(super) fn store_bytes(&self) -> Result<u64, Error> {
        let path = self.directory.path("state/store.db");
        Ok(std::fs::metadata(&path).map_err(Error::file(&path))?.len())
    }

    /// Starts the supervisor on the server's core, and does not wait.
    pub(super) fn start(&self, cores: &Cores) -> Result<Server, Error> {
        let mut command = Command::new(self.programs.join("hsm-engine"));
        command.args(["run", "--config"]).arg(self.directory.configuration());
        cores.on_server(|| Server::start(command, &self.directory.path("log")))
    }

    /// Waits until the replica accepts.
    pub(super) fn await_ready(&self, engine: &mut Server) -> Result<(), Error> {
        self.directory.await_ready(engine, 1)
    }

    /// Process id of the replica.
    pub(super) fn replica(&self) -> Result<Pid, Error> {
        self.directory.replica(0)
    }

    /// Runs the client on its core, speaking to this engine.
    pub(super) fn client(&self, cores: &Cores, command: &str, arguments: &[&str]) -> Result<Value, Error> {
        cores.on_client(|| report_of(self.speaking(command, arguments)))
    }

    /// The same on the engine's core.
    pub(super) fn neighbour(&self, cores: &Cores, command: &str, arguments: &[&str]) -> Result<Value, Error> {
        cores.on_server(|| report_of(self.speaking(command, arguments)))
    }

    /// A client on its core that speaks to this engine when it is told to.
    pub(super) fn client_in_turns(
        &self,
        cores: &Cores,
        command: &str,
        arguments: &[&str],
    ) -> Result<Turns, Error> {
        cores.on_client(|| Turns::begin(self.speaking(command, arguments)))
    }

    /// One that signs without an engine, on the engine's core, when it is told to.
    pub(super) fn raw_in_turns(&self, cores: &Cores, arguments: &[&str]) -> Result<Turns, Error> {
        let mut raw = Command::new(self.programs.join("hsm-bench-signatures"));
        raw.arg("raw").args(arguments);
        cores.on_server(|| Turns::begin(raw))
    }

    fn speaking(&self, command: &str, arguments: &[&str]) -> Command {
        let mut client = Command::new(self.programs.join("hsm-bench-signatures"));
        client.arg(command).arg("--socket").arg(self.directory.socket(0));
        client.arg("--token").arg(self.directory.path("token")).args(arguments);
        client
    }
}

/// A program that works while it is its turn, and ends with this.
pub(super) struct Turns {
    child: Child,
    turns: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Turns {
    fn begin(mut command: Command) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program, source })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(turns), Some(reports)) => Ok(Self { child, turns, reports: BufReader::new(reports) }),
            _ => Err(Error::LoadReport("it has no pipes".to_owned())),
        }
    }

    /// Its turn, of so many milliseconds.
    pub(super) fn take(&mut self, millis: u64) -> Result<Value, Error> {
        writeln!(self.turns, "{millis}")?;
        let mut report = String::new();
        self.reports.read_line(&mut report)?;
        serde_json::from_str(&report).map_err(|error| Error::LoadReport(error.to_string()))
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn report_of(mut command: Command) -> Result<Value, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Error::Start { program, source })?;
    if !output.status.success() {
        let what = "hsm-bench-signatures".to_owned();
        return Err(Error::Failed { what, status: output.status });
    }
    serde_json::from_slice(&output.stdout).map_err(|error| Error::LoadReport(error.to_string()))
}
