//! Starts the replicas, restarts the dead, ends them all. Holds no key and opens no store.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGCHLD, SIGSYS};

mod backoff;
mod process;

use backoff::Backoff;
use process::ReplicaProcess;

use crate::config::Config;
use crate::directory::{self, Lock, PidFile};
use crate::exit::{self, StartError};
use crate::shutdown::{self, Shutdown};

const SHUTDOWN: Token = Token(usize::MAX);
const CHILD_ENDED: Token = Token(usize::MAX - 1);

/// Runs the replicas that `config` asks for until a signal or, with `exit_with_stdin`, the end of standard input.
///
/// # Errors
///
/// If the directories can't be used, another supervisor holds them, or no replica has ever come up.
pub(crate) fn run(config: &Config, config_path: &Path, exit_with_stdin: bool) -> Result<(), StartError> {
    let shutdown = Shutdown::install().map_err(StartError::system("can't catch signals"))?;
    if exit_with_stdin {
        shutdown.follow_stdin().map_err(StartError::system("can't start a thread"))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    directory::prepare(&config.state_dir, 0o700)?;
    directory::prepare(&config.socket_dir, config.socket_access.directory_mode())?;
    let _only_one = Lock::take(&config.socket_dir.join("supervisor.lock"), "supervisor")?;
    let _pid_file = PidFile::write(config.socket_dir.join("supervisor.pid"))?;
    Supervisor::new(config, config_path, shutdown).map_err(StartError::system("can't watch replicas"))?.run()
}

struct Supervisor<'a> {
    config: &'a Config,
    config_path: PathBuf,
    poll: Poll,
    shutdown: Shutdown,
    child_ended: UnixStream,
    replicas: Vec<Replica>,
    /// One of them has served: from then on the configuration is not in doubt, and no failure is final.
    ever_ready: bool,
    /// Once all are to end: when those who haven't are killed.
    kill_at: Option<Instant>,
}

struct Replica {
    index: u16,
    state: State,
    backoff: Backoff,
    /// The last process said that it can't start.
    cannot_start: bool,
}

enum State {
    Running(ReplicaProcess),
    /// To be started then.
    Waiting(Instant),
    Ended,
}

impl Replica {
    /// It said that it does, and has not ended. One that is frozen counts, too: where that is the only other one, a start that goes
    /// behind it is slower than it need be on a busy processor, and no more.
    fn serves(&self) -> bool {
        matches!(&self.state, State::Running(process) if process.served().is_some())
    }
}

impl<'a> Supervisor<'a> {
    /// From the request to end to SIGKILL; longer than a replica's own drain.
    const GRACE: Duration = Duration::from_secs(8);

    fn new(config: &'a Config, config_path: &Path, mut shutdown: Shutdown) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mut child_ended, _kept_by_the_handler) = shutdown::signal_pipe(&[SIGCHLD])?;
        poll.registry().register(shutdown.source(), SHUTDOWN, Interest::READABLE)?;
        poll.registry().register(&mut child_ended, CHILD_ENDED, Interest::READABLE)?;
        let now = Instant::now();
        let replicas = (0..config.replicas)
            .map(|index| Replica {
                index,
                state: State::Waiting(now),
                backoff: Backoff::default(),
                cannot_start: false,
            })
            .collect();
        let config_path = config_path.to_owned();
        Ok(Self {
            config,
            config_path,
            poll,
            shutdown,
            child_ended,
            replicas,
            ever_ready: false,
            kill_at: None,
        })
    }

    fn run(mut self) -> Result<(), StartError> {
        let mut events = Events::with_capacity(64);
        loop {
            self.start_due();
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(StartError::system("can't wait for replicas")(error));
                }
                _ => {}
            }
            if events.iter().any(|event| event.token() == CHILD_ENDED) {
                shutdown::drain(&mut self.child_ended);
            }
            if events.iter().any(|event| event.token() == SHUTDOWN) {
                shutdown::drain(self.shutdown.source());
                tracing::info!("supervisor ending");
                self.end_all();
            }
            self.note_ready();
            self.reap();
            if self.kill_at.is_none() && !self.ever_ready && self.replicas.iter().all(|one| one.cannot_start)
            {
                self.end_all();
            }
            if let Some(kill_at) = self.kill_at {
                if self.replicas.iter().all(|one| matches!(one.state, State::Ended)) {
                    break;
                }
                if Instant::now() >= kill_at {
                    self.kill_all();
                    break;
                }
            }
        }
        if !self.ever_ready && self.replicas.iter().all(|one| one.cannot_start) {
            return Err(StartError::NoReplica);
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        let starts = self.replicas.iter().filter_map(|one| match one.state {
            State::Waiting(at) => Some(at),
            State::Running(_) | State::Ended => None,
        });
        let next = starts.chain(self.kill_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let others_serve = self.replicas.iter().any(Replica::serves);
        for replica in &mut self.replicas {
            if !matches!(replica.state, State::Waiting(at) if at <= now) {
                continue;
            }
            let started =
                ReplicaProcess::start(&self.config_path, replica.index, others_serve, self.poll.registry());
            replica.state = match started {
                Ok(process) => {
                    tracing::debug!(replica = replica.index, pid = process.pid(), "engine starting");
                    State::Running(process)
                }
                Err(error) => {
                    let delay = replica.backoff.after(None);
                    tracing::error!(
                        replica = replica.index,
                        retry_in_ms = delay.as_millis(),
                        "engine can't be started: {error}"
                    );
                    State::Waiting(now + delay)
                }
            };
        }
    }

    /// Says which replicas have come up.
    fn note_ready(&mut self) {
        for replica in &mut self.replicas {
            let State::Running(process) = &mut replica.state else { continue };
            if let Some(after) = process.became_ready() {
                self.ever_ready = true;
                replica.cannot_start = false;
                let (pid, after_ms) = (process.pid(), after.as_millis());
                tracing::info!(replica = replica.index, pid, after_ms, "engine ready");
            }
        }
    }

    /// Says which replicas have died, and plans their return.
    fn reap(&mut self) {
        for replica in &mut self.replicas {
            let State::Running(process) = &mut replica.state else { continue };
            let Some(status) = process.ended() else { continue };
            let (index, pid, served) = (replica.index, process.pid(), process.served());
            directory::remove_pid_file(&self.config.pid_path(index), pid);
            let how = describe(status);
            if self.kill_at.is_some() {
                tracing::info!(replica = index, pid, how, "engine ended");
                replica.state = State::Ended;
                continue;
            }
            replica.cannot_start = served.is_none()
                && matches!(status.code().map(u8::try_from), Some(Ok(exit::CONFIG | exit::SOFTWARE)));
            let delay = replica.backoff.after(served);
            tracing::warn!(replica = index, pid, how, restart_in_ms = delay.as_millis(), "engine died");
            replica.state = State::Waiting(Instant::now() + delay);
        }
    }

    fn end_all(&mut self) {
        self.kill_at.get_or_insert_with(|| Instant::now() + Self::GRACE);
        for replica in &mut self.replicas {
            match &mut replica.state {
                State::Running(process) => process.end(),
                State::Waiting(_) | State::Ended => replica.state = State::Ended,
            }
        }
    }

    fn kill_all(&mut self) {
        for replica in &mut self.replicas {
            if let State::Running(process) = std::mem::replace(&mut replica.state, State::Ended) {
                tracing::error!(replica = replica.index, pid = process.pid(), "engine did not end; killed");
                let pid = process.pid();
                drop(process);
                directory::remove_pid_file(&self.config.pid_path(replica.index), pid);
            }
        }
    }
}

/// An exit status in words.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;

    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => {
            let name = signal_hook::low_level::signal_name(signal).map(|name| format!(" ({name})"));
            let dumped = if status.core_dumped() { ", core dumped" } else { "" };
            // What a seccomp filter ends a process with.
            let why =
                if signal == SIGSYS { ", its sandbox: it asked for what no engine asks for" } else { "" };
            format!("signal {signal}{}{dumped}{why}", name.unwrap_or_default())
        }
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn deaths_are_told_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(70 << 8)), "exit status 70");
        assert_eq!(describe(ExitStatus::from_raw(9)), "signal 9 (SIGKILL)");
        assert_eq!(describe(ExitStatus::from_raw(0x80 | 11)), "signal 11 (SIGSEGV), core dumped");
        let denied = "signal 31 (SIGSYS), its sandbox: it asked for what no engine asks for";
        assert_eq!(describe(ExitStatus::from_raw(SIGSYS)), denied);
    }
}
