//! The engine process that a drill disturbs: found by its pid file or its socket, made sure of, signalled without a race.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;

/// The program that a pid file must name, or nothing is signalled.
const PROGRAM: &str = "hsm-engine";

/// How often files and sockets are looked at while a replica comes back. The time it took is known this well.
const POLL: Duration = Duration::from_millis(2);

/// One of several engines.
#[derive(Clone, Debug)]
pub struct Replica {
    number: u16,
    known_by: KnownBy,
    socket: PathBuf,
}

/// Where its process id comes from.
#[derive(Clone, Debug)]
enum KnownBy {
    PidFile(PathBuf),
    /// The kernel, which knows who listens at the socket (`SO_PEERCRED`, `unix(7)`).
    Listening,
}

/// A live engine process. The pid can't come to mean another process while this exists.
#[derive(Debug)]
pub struct EngineProcess {
    pid: Pid,
    handle: OwnedFd,
}

/// An engine that stands still; continues when dropped.
#[derive(Debug)]
pub(crate) struct Frozen(EngineProcess);

impl Replica {
    /// Engine `number` of the state directory of an `hsm-proxy dev`.
    pub fn new(state_dir: &Path, number: u16) -> Self {
        let run = state_dir.join("run");
        Self {
            number,
            known_by: KnownBy::PidFile(run.join(format!("engine-{number}.pid"))),
            socket: run.join(format!("engine-{number}.sock")),
        }
    }

    /// The engine that listens at this socket.
    pub fn listening_at(socket: &Path, number: u16) -> Self {
        Self { number, known_by: KnownBy::Listening, socket: socket.to_owned() }
    }

    /// Its process, after checking that it is one of an engine.
    ///
    /// # Errors
    ///
    /// If the pid file is missing or damaged, or nobody listens at the socket; if no process has that id, or another
    /// program's has.
    pub fn process(&self) -> Result<EngineProcess, ReplicaError> {
        let pid = match &self.known_by {
            KnownBy::PidFile(path) => pid_in(path)?,
            KnownBy::Listening => self.listener()?,
        };
        // First the handle, then the check: what is checked is then what is signalled, or the signal finds nobody.
        let gone = || ReplicaError::Gone { pid: pid.as_raw_pid(), number: self.number };
        let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        let name = program(pid).ok_or_else(gone)?;
        if name == PROGRAM {
            return Ok(EngineProcess { pid, handle });
        }
        Err(match &self.known_by {
            KnownBy::PidFile(path) => {
                ReplicaError::NotAnEngine { pid: pid.as_raw_pid(), name, path: path.clone() }
            }
            KnownBy::Listening => {
                ReplicaError::OtherListens { pid: pid.as_raw_pid(), name, socket: self.socket.clone() }
            }
        })
    }

    /// Who listens at the socket. A process that stands still is found, too: the kernel takes the connection.
    fn listener(&self) -> Result<Pid, ReplicaError> {
        let nobody = |source| ReplicaError::Socket { socket: self.socket.clone(), source };
        let connection = std::os::unix::net::UnixStream::connect(&self.socket).map_err(nobody)?;
        let credentials = socket_peercred(&connection).map_err(|error| nobody(error.into()))?;
        Ok(credentials.pid)
    }

    /// Waits until another process than `before` has taken over and its socket accepts connections; gives its pid.
    /// `None` when the limit is reached.
    pub(crate) async fn back(&self, before: i32, deadline: Instant) -> Option<i32> {
        loop {
            if let Ok(process) = self.process()
                && process.pid() != before
                && UnixStream::connect(&self.socket).await.is_ok()
            {
                return Some(process.pid());
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn pid_in(path: &Path) -> Result<Pid, ReplicaError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ReplicaError::PidFile { path: path.to_owned(), source })?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
    pid.ok_or_else(|| ReplicaError::NoPid { path: path.to_owned() })
}

impl EngineProcess {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    pub(crate) fn kill(&self) -> Result<(), ReplicaError> {
        self.signal(Signal::KILL)
    }

    pub(crate) fn freeze(self) -> Result<Frozen, ReplicaError> {
        self.signal(Signal::STOP)?;
        Ok(Frozen(self))
    }

    fn signal(&self, signal: Signal) -> Result<(), ReplicaError> {
        pidfd_send_signal(&self.handle, signal)
            .map_err(|source| ReplicaError::Signal { pid: self.pid(), source: source.into() })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // If it is gone meanwhile, there is nothing to continue.
        let _gone = self.0.signal(Signal::CONT);
    }
}

/// The name of the program that a live process runs.
///
/// An engine isn't dumpable, so only root may follow its `exe` link; its `comm` is there for everybody.
fn program(pid: Pid) -> Option<String> {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    let state = stat.rsplit(')').next()?.trim_start().chars().next()?;
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    if let Ok(exe) = std::fs::read_link(proc.join("exe")) {
        let name = exe.file_name()?.to_string_lossy().into_owned();
        // Rebuilt while it runs.
        return Some(name.strip_suffix(" (deleted)").map_or(name.clone(), str::to_owned));
    }
    let comm = std::fs::read_to_string(proc.join("comm")).ok()?;
    Some(comm.trim_end().to_owned())
}

/// Why a replica can't be disturbed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// No pid file.
    #[error("{}: {source}; is `hsm-proxy dev` running with this state directory?", path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// Why it can't be read.
        source: io::Error,
    },
    /// The pid file holds something else.
    #[error("{}: it holds no process id", path.display())]
    NoPid {
        /// The file.
        path: PathBuf,
    },
    /// The process that the pid file names doesn't run.
    #[error("engine {number} doesn't run: there is no process {pid}")]
    Gone {
        /// The process.
        pid: i32,
        /// The replica.
        number: u16,
    },
    /// The pid file names another program's process: a left-over.
    #[error("process {pid} is {name}, not hsm-engine: {} is out of date; nothing was signalled", path.display())]
    NotAnEngine {
        /// The process.
        pid: i32,
        /// What it runs.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Nobody listens at the engine's socket, or this process may not connect.
    #[error("{}: {source}; is the engine running, and may this user connect to it?", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// Why there is no connection.
        source: io::Error,
    },
    /// Another program listens at the socket.
    #[error("process {pid}, which listens at {}, is {name}, not hsm-engine; nothing was signalled", socket.display())]
    OtherListens {
        /// The process.
        pid: i32,
        /// What it runs.
        name: String,
        /// The socket.
        socket: PathBuf,
    },
    /// The signal was refused.
    #[error("process {pid} can't be signalled: {source}")]
    Signal {
        /// The process.
        pid: i32,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
