//! Engines of a benchmark: a supervisor, with one replica as a rule, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::cores::Cores;
use crate::engine_directory::EngineDirectory;
use crate::error::Error;
use crate::process::{Companion, Server, report_of};

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
    replicas: u16,
}

impl EnginePlace {
    /// Writes what an engine needs to start in `directory`, which must exist.
    pub(super) fn prepare(directory: &Path, programs: &Path, settings: &str) -> Result<Self, Error> {
        Self::prepare_replicas(1, directory, programs, settings)
    }

    /// The same for a cluster of so many.
    pub(super) fn prepare_replicas(
        replicas: u16,
        directory: &Path,
        programs: &Path,
        settings: &str,
    ) -> Result<Self, Error> {
        let directory = EngineDirectory::at(directory);
        directory.prepare(&format!("replicas = {replicas}\nworker-threads = 2\n{settings}"))?;
        Ok(Self { directory, programs: programs.to_owned(), replicas })
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

    /// Waits until its replicas accept.
    pub(super) fn await_ready(&self, engine: &mut Server) -> Result<(), Error> {
        self.directory.await_ready(engine, self.replicas)
    }

    /// Process id of a replica.
    pub(super) fn replica(&self, index: u16) -> Result<Pid, Error> {
        self.directory.replica(index)
    }

    /// Runs the client on its core, speaking to this engine.
    pub(super) fn client(&self, cores: &Cores, command: &str, arguments: &[&str]) -> Result<Value, Error> {
        cores.on_client(|| report_of(self.speaking(0, command, arguments)))
    }

    /// The same on the engine's core.
    pub(super) fn neighbour(&self, cores: &Cores, command: &str, arguments: &[&str]) -> Result<Value, Error> {
        cores.on_server(|| report_of(self.speaking(0, command, arguments)))
    }

    /// A client on its core that takes turns at this engine.
    pub(super) fn client_in_turns(
        &self,
        cores: &Cores,
        command: &str,
        arguments: &[&str],
    ) -> Result<Companion, Error> {
        cores.on_client(|| Companion::start(self.speaking(0, command, arguments)))
    }

    /// One of the second replica's on the first one's core.
    pub(super) fn neighbour_in_turns(
        &self,
        cores: &Cores,
        command: &str,
        arguments: &[&str],
    ) -> Result<Companion, Error> {
        cores.on_server(|| Companion::start(self.speaking(1, command, arguments)))
    }

    /// One that signs without an engine in its turns, on the engine's core.
    pub(super) fn raw_in_turns(&self, cores: &Cores, arguments: &[&str]) -> Result<Companion, Error> {
        let mut raw = Command::new(self.programs.join("hsm-bench-signatures"));
        raw.arg("raw").args(arguments);
        cores.on_server(|| Companion::start(raw))
    }

    fn speaking(&self, replica: u16, command: &str, arguments: &[&str]) -> Command {
        let mut client = Command::new(self.programs.join("hsm-bench-signatures"));
        client.arg(command).arg("--socket").arg(self.directory.socket(replica));
        client.arg("--token").arg(self.directory.path("token")).args(arguments);
        client
    }
}
