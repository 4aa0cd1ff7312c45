//! A running daemon in a directory of its own; it and its replicas are gone when it is dropped.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::peer::Peer;

/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The directories and the configuration, with nothing running.
pub(crate) struct Site {
    dir: TempDir,
}

pub(crate) struct Daemon {
    site: Site,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Site {
    /// `config` is added to what every test needs.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let site = Self { dir };
        site.write_unseal("an unseal secret of a test\n");
        let text = format!(
            "state-dir = {:?}\nsocket-dir = {:?}\nunseal-file = {:?}\nworker-threads = 2\n{config}\n",
            site.path("state"),
            site.path("run"),
            site.path("unseal")
        );
        fs::write(site.config(), text).unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("engine.toml")
    }

    pub(crate) fn write_unseal(&self, secret: &str) {
        let path = self.path("unseal");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(secret.as_bytes()).unwrap();
    }

    /// What the program says about itself so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs the program to its end.
    pub(crate) fn run_to_end(&self, command: &str) -> (ExitStatus, String) {
        let mut child = self.command(command).stdin(Stdio::null()).spawn().unwrap();
        let status = await_some("the program to end", || child.try_wait().unwrap());
        (status, self.log())
    }

    fn spawn(&self) -> (Child, Option<ChildStdin>) {
        let mut child = self.command("run").arg("--exit-with-stdin").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        (child, stdin)
    }

    fn command(&self, command: &str) -> Command {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_hsm-engine"));
        run.arg(command).arg("--config").arg(self.config()).stdout(Stdio::null()).stderr(log);
        run.env_remove("CREDENTIALS_DIRECTORY");
        run
    }
}

impl Daemon {
    /// Starts a supervisor and waits until all replicas serve.
    pub(crate) fn start(config: &str) -> Self {
        let site = Site::new(config);
        let (child, stdin) = site.spawn();
        let daemon = Self { site, child, stdin };
        let replicas =
            if fs::read_to_string(daemon.site.config()).unwrap().contains("replicas = 1\n") { 1 } else { 2 };
        for index in 0..replicas {
            daemon.await_replica(index, None);
        }
        daemon
    }

    /// Starts another supervisor after the first has ended.
    pub(crate) fn restart(&mut self) {
        (self.child, self.stdin) = self.site.spawn();
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self, index: u16) -> PathBuf {
        self.site.path(&format!("run/engine-{index}.sock"))
    }

    pub(crate) fn connect(&self, index: u16) -> Peer {
        Peer::connect(&self.socket(index)).unwrap()
    }

    pub(crate) fn replica_pid(&self, index: u16) -> Option<u32> {
        read_pid(&self.site.path(&format!("run/engine-{index}.pid")))
    }

    /// Waits until replica `index` serves, as another process than `before`; returns its process id.
    pub(crate) fn await_replica(&self, index: u16, before: Option<u32>) -> u32 {
        await_some(&format!("replica {index}; the log:\n{}", self.site.log()), || {
            let pid = self.replica_pid(index).filter(|&pid| Some(pid) != before)?;
            Peer::connect(&self.socket(index)).ok()?.try_hello().ok().map(|_| pid)
        })
    }

    pub(crate) fn await_log(&self, text: &str) {
        await_some(&format!("{text:?} in the log"), || self.site.log().contains(text).then_some(()));
    }

    /// Closes the pipe that the daemon's life hangs on.
    pub(crate) fn let_go(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn await_end(&mut self) -> ExitStatus {
        let log = self.site.log();
        await_some(&format!("the supervisor to end; the log:\n{log}"), || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The replicas follow: by their lifelines, or the tests of those fail.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.site.log());
        }
    }
}

/// Asks until there is an answer; the answer is an event elsewhere that nobody can wait for.
pub(crate) fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn send_signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

pub(crate) fn await_gone(pid: u32) {
    await_some(&format!("process {pid} to be gone"), || is_gone(pid).then_some(()));
}

/// Dead, whether or not its parent has looked.
fn is_gone(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()
}
