//! An administrator's machine: engines of two replicas with a port each, and the directory in which everything is done.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Program, address, binary, run, wait};

/// Longest wait for what takes milliseconds on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two replicas of an empty cluster, with a socket and a port each.
///
/// The passwords of the users are in files that are called as they are: `alice`, `web`, `ca`.
#[derive(Debug)]
pub struct Site {
    directory: tempfile::TempDir,
    ports: [u16; 2],
    _engines: Program,
}

impl Site {
    /// Starts them, and waits until they listen.
    ///
    /// # Panics
    ///
    /// If they don't.
    #[expect(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        write_private(
            &root.join("unseal"),
            "d41d8cd98f00b204e9800998ecf8427ed41d8cd98f00b204e9800998ecf8427e\n",
        );
        for user in ["alice", "web", "ca"] {
            write_private(&root.join(user), &format!("the password of {user}\n"));
        }
        // The configuration takes no port that nobody knows.
        let ports = address::free().map(|address| address.port());
        let configuration = format!(
            "state-dir = \"{root}/state\"\nsocket-dir = \"{root}/run\"\nunseal-file = \"{root}/unseal\"\n\
             listen-tcp = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n",
            ports[0],
            ports[1],
            root = root.display()
        );
        fs::write(root.join("engine.toml"), configuration).expect("the configuration is written");
        let mut engine = Command::new(binary("hsm-engine"));
        engine.args(["run", "--config"]).arg(root.join("engine.toml")).stdin(Stdio::null());
        let engines = Program::start(engine.env_remove("CREDENTIALS_DIRECTORY"));
        for replica in 0..2 {
            address::await_socket("the engine", &root.join(format!("run/engine-{replica}.sock")));
        }
        Self { directory, ports, _engines: engines }
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the replicas listen for other machines.
    pub fn ports(&self) -> [u16; 2] {
        self.ports
    }

    /// The same, as clients are told it.
    pub fn addresses(&self) -> [String; 2] {
        self.ports.map(|port| format!("tcp://localhost:{port}"))
    }

    /// A command in its directory.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).env("XDG_RUNTIME_DIR", self.directory.path());
        command.args(arguments);
        command
    }

    /// What `hsm` says at the first replica's socket.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn hsm(&self, arguments: &[&str]) -> String {
        let mut hsm = self.command(&binary("hsm"), &["--engine", "run/engine-0.sock"]);
        run(hsm.args(arguments)).success()
    }

    /// The same, as a user.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn hsm_as(&self, user: &str, arguments: &[&str]) -> String {
        self.hsm(&[&["--user", user, "--password-file", user], arguments].concat())
    }

    /// Makes the admin alice of an initialized cluster, and the crypto users web and ca.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn activate(&self) {
        self.hsm(&["cluster", "activate", "--admin", "alice", "--new-password-file", "alice"]);
        for user in ["web", "ca"] {
            let create = ["user", "create", user, "--role", "crypto-user", "--new-password-file", user];
            self.hsm_as("alice", &create);
        }
    }

    /// Kills a replica; returns its process id.
    ///
    /// # Panics
    ///
    /// If it can't be killed.
    pub fn kill(&self, replica: usize) -> i32 {
        let pid = self.pid(replica).expect("its process id");
        kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("it is killed");
        pid
    }

    /// Waits until another one listens in the place of a replica that was killed.
    ///
    /// # Panics
    ///
    /// If none does in time.
    pub fn await_another(&self, replica: usize, killed: i32) {
        wait::until("another replica in its place listens", PATIENCE, || {
            let now = self.pid(replica)?;
            (now != killed && TcpStream::connect(("127.0.0.1", self.ports[replica])).is_ok()).then_some(())
        });
    }

    fn pid(&self, replica: usize) -> Option<i32> {
        fs::read_to_string(self.path(&format!("run/engine-{replica}.pid"))).ok()?.trim().parse().ok()
    }
}

/// Writes a new file that its owner alone may read.
///
/// # Panics
///
/// If that fails.
pub fn write_private(path: &Path, content: &str) {
    use std::io::Write;
    let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).expect("the file is written");
}
