//! One replica as a child process.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};

/// A running replica.
///
/// Its standard input is a pipe whose other end only this process holds: when that closes, because the supervisor says
/// so or because it was killed, the replica ends. On its standard output it says when it serves. Dropping this kills it.
#[derive(Debug)]
pub(super) struct ReplicaProcess {
    child: Child,
    lifeline: Option<ChildStdin>,
    notices: Option<Receiver>,
    started: Instant,
    ready: Option<Instant>,
}

impl ReplicaProcess {
    /// Starts this very executable, even if its file was replaced since, as replica `index`.
    ///
    /// The replica gets a process group of its own, so that Ctrl-C at a terminal reaches the supervisor only. If `others_serve`,
    /// they go first while it opens what it needs.
    pub(super) fn start(
        config: &Path,
        index: u16,
        others_serve: bool,
        registry: &Registry,
    ) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("hsm-engine")
            .args(["replica", "--index", &index.to_string(), "--config"])
            .arg(config)
            .args(others_serve.then_some("--give-way"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (lifeline, stdout) = (child.stdin.take(), child.stdout.take());
        // From here on an error drops, and so kills, the child.
        let mut process = Self { child, lifeline, notices: None, started: Instant::now(), ready: None };
        if let Some(stdout) = stdout {
            let mut notices = Receiver::from(stdout);
            notices.set_nonblocking(true)?;
            registry.register(&mut notices, Token(usize::from(index)), Interest::READABLE)?;
            process.notices = Some(notices);
        }
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The time it took, if it has begun to serve since the last call.
    pub(super) fn became_ready(&mut self) -> Option<Duration> {
        let notices = self.notices.as_mut().filter(|_| self.ready.is_none())?;
        let said = notices.read(&mut [0; 64]).is_ok_and(|count| count > 0);
        said.then(|| self.ready.insert(Instant::now()).duration_since(self.started))
    }

    /// How long it has served, if it ever did.
    pub(super) fn served(&self) -> Option<Duration> {
        self.ready.map(|ready| ready.elapsed())
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end.
    pub(super) fn end(&mut self) {
        self.lifeline = None;
    }
}

impl Drop for ReplicaProcess {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ended_just_now = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
