//! One engine of a benchmark: a supervisor with one replica in a directory of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;

use super::cores::Cores;
use crate::error::Error;
use crate::process::Server;

const STARTING: Duration = Duration::from_secs(60);

/// Taken for a key, as those of engines in service are: a passphrase would be stretched at each start, which is not what is measured.
const UNSEAL_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Where an engine keeps its state, and the programs that it is measured with.
pub(super) struct EnginePlace {
    directory: PathBuf,
    programs: PathBuf,
}

impl EnginePlace {
    /// Writes what an engine needs to start in `directory`, which must exist.
    pub(super) fn prepare(directory: &Path, programs: &Path, settings: &str) -> Result<Self, Error> {
        let path = |name: &str| directory.join(name);
        let text = format!(
            "state-dir = {:?}\nsocket-dir = {:?}\nunseal-file = {:?}\nreplicas = 1\nworker-threads = 2\n{settings}\n",
            path("state"),
            path("run"),
            path("unseal"),
        );
        fs::write(path("engine.toml"), text).map_err(Error::file(path("engine.toml")))?;
        fs::write(path("unseal"), UNSEAL_KEY).map_err(Error::file(path("unseal")))?;
        fs::set_permissions(path("unseal"), PermissionsExt::from_mode(0o600))
            .map_err(Error::file(path("unseal")))?;
        Ok(Self { directory: directory.to_owned(), programs: programs.to_owned() })
    }

    /// Length of the store's database.
    pub(super) fn store_bytes(&self) -> Result<u64, Error> {
        let path = self.directory.join("state/store.db");
        Ok(fs::metadata(&path).map_err(Error::file(&path))?.len())
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("run/engine-0.sock")
    }

    /// Starts the supervisor on the server's core, and does not wait.
    pub(super) fn start(&self, cores: &Cores) -> Result<Server, Error> {
        let mut command = Command::new(self.programs.join("hsm-engine"));
        command.args(["run", "--config"]).arg(self.directory.join("engine.toml"));
        cores.on_server(|| Server::start(command, &self.directory.join("log")))
    }

    /// Waits until the replica accepts.
    pub(super) fn await_ready(&self, engine: &mut Server) -> Result<(), Error> {
        let socket = self.socket();
        let accepts = || UnixStream::connect(&socket).is_ok();
        engine.await_ready("hsm-engine", &socket.display(), STARTING, accepts)
    }

    /// Process id of the replica.
    pub(super) fn replica(&self) -> Result<Pid, Error> {
        let path = self.directory.join("run/engine-0.pid");
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::LoadReport(format!("{} holds no process id", path.display())))
    }

    /// Runs the client on its core, speaking to this engine.
    pub(super) fn client(&self, cores: &Cores, command: &str, arguments: &[&str]) -> Result<Value, Error> {
        cores.on_client(|| report_of(self.speaking(command, arguments)))
    }

    /// The same on the engine's core.
    pub(super) fn neighbour(&self, cores: &Cores, command: &str, arguments: &[&str]) -> Result<Value, Error> {
        cores.on_server(|| report_of(self.speaking(command, arguments)))
    }

    /// Signs without an engine, on the engine's core.
    pub(super) fn raw(&self, cores: &Cores, arguments: &[&str]) -> Result<Value, Error> {
        let mut raw = Command::new(self.programs.join("hsm-bench-signatures"));
        raw.arg("raw").args(arguments);
        cores.on_server(|| report_of(raw))
    }

    fn speaking(&self, command: &str, arguments: &[&str]) -> Command {
        let mut client = Command::new(self.programs.join("hsm-bench-signatures"));
        client.arg(command).arg("--socket").arg(self.socket());
        client.arg("--token").arg(self.directory.join("token")).args(arguments);
        client
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
