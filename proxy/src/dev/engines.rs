//! The engines as a child process, tied to this one by a pipe.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::DevError;
use super::state::StateDir;

/// How long the engines may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running supervisor with its replicas. They end when this value or this process does.
pub(super) struct Engines {
    supervisor: Child,
    /// The supervisor ends when the other side of its standard input is gone: also when this process is killed.
    lifeline: Option<ChildStdin>,
    sockets: Vec<PathBuf>,
}

impl Engines {
    /// Starts them and waits until each one accepts connections.
    pub(super) fn start(state: &StateDir, replicas: u16) -> Result<Self, DevError> {
        state.secret(&state.unseal_file())?;
        let config = state.root().join("engine.toml");
        state.write(&config, configuration(state, replicas).as_bytes(), 0o600)?;
        let log = state.root().join("engine.log");
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|source| DevError::io(&log, source))?;

        let program = find_program("hsm-engine").map_err(|beside| DevError::NoEngineProgram { beside })?;
        let mut supervisor = Command::new(&program)
            .args(["run", "--exit-with-stdin", "--config"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(output)
            // Ctrl-C at the terminal goes to the foreground group: this process decides when the engines stop.
            .process_group(0)
            .spawn()
            .map_err(|source| DevError::io(&program, source))?;
        let lifeline = supervisor.stdin.take();
        let sockets = (0..replicas).map(|n| state.run().join(format!("engine-{n}.sock"))).collect();
        let mut engines = Self { supervisor, lifeline, sockets };
        engines.wait_until_up(&log)?;
        Ok(engines)
    }

    /// Where they listen, by number.
    pub(super) fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// Stops them and waits until they are gone.
    pub(super) fn stop(mut self) {
        self.end();
    }

    fn wait_until_up(&mut self, log: &Path) -> Result<(), DevError> {
        let not_up = |reason| DevError::EnginesNotUp { reason, log: log.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        for socket in self.sockets.clone() {
            while UnixStream::connect(&socket).is_err() {
                if let Ok(Some(status)) = self.supervisor.try_wait() {
                    return Err(not_up(format!("hsm-engine ended with {status}")));
                }
                if Instant::now() > deadline {
                    return Err(not_up(format!("{} does not accept connections", socket.display())));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        drop(self.lifeline.take());
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.supervisor.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                tracing::warn!(
                    pid = self.supervisor.id(),
                    "the engines do not stop; killing their supervisor"
                );
                let _gone = kill_process(Pid::from_child(&self.supervisor), Signal::KILL);
                let _reaped = self.supervisor.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.end();
    }
}

/// Finds a program of this product beside this one, then on `PATH`; if it is in neither, gives this one's directory.
pub(super) fn find_program(name: &str) -> Result<PathBuf, PathBuf> {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("")).to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(beside.clone())
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or(beside)
}

fn configuration(state: &StateDir, replicas: u16) -> String {
    let quote = |path: PathBuf| toml::Value::from(path.to_string_lossy().into_owned()).to_string();
    format!(
        "# Written by hsm-proxy dev at every start.\n\
         state-dir = {}\n\
         socket-dir = {}\n\
         unseal-file = {}\n\
         replicas = {replicas}\n",
        quote(state.engine()),
        quote(state.run()),
        quote(state.unseal_file()),
    )
}
