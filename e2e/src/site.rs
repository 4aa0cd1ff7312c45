//! An administrator's machine: engines of two replicas, and the directory in which everything is done.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Identity};
use keycore_wire::{Attributes, GenerateKey, IdempotencyKey, KeyAlgorithm, KeyTemplate};
use rustix::process::Signal;
use serde_json::Value;

use crate::{Finished, Program, address, binary, replica, run, wait};

/// Longest wait for what takes milliseconds on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the engines are.
#[derive(Debug, Clone, Copy)]
pub struct SiteOptions<'a> {
    /// Where their directory is made; where temporary ones are if nothing is said.
    pub place: Option<&'a Path>,
    /// What is in the file that unseals them; custodians do it if there is none.
    pub unseal: Option<&'a str>,
    /// Whether each has a port besides its socket.
    pub ports: bool,
    /// Further lines of their configuration.
    pub configuration: &'a str,
}

impl Default for SiteOptions<'_> {
    fn default() -> Self {
        let unseal = Some("d41d8cd98f00b204e9800998ecf8427ed41d8cd98f00b204e9800998ecf8427e\n");
        Self { place: None, unseal, ports: false, configuration: "" }
    }
}

/// Two replicas of an empty cluster.
///
/// The passwords of the users are in files that are called as they are: `alice`, `web`, `ca`.
#[derive(Debug)]
pub struct Site {
    // Before the directory: they end before it goes.
    engines: Program,
    directory: tempfile::TempDir,
    ports: Option<[SocketAddr; 2]>,
}

impl Site {
    /// Starts them, and waits until they listen.
    ///
    /// # Panics
    ///
    /// If they don't.
    pub fn start(options: SiteOptions<'_>) -> Self {
        let directory =
            options.place.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory");
        let root = directory.path();
        for user in ["alice", "web", "ca"] {
            write_private(&root.join(user), &format!("the password of {user}\n"));
        }
        let mut configuration = format!(
            "replicas = 2\nstate-dir = \"{root}/state\"\nsocket-dir = \"{root}/run\"\n",
            root = root.display()
        );
        match options.unseal {
            Some(secret) => {
                let file = root.join("unseal");
                write_private(&file, secret);
                configuration += &format!("unseal-file = {file:?}\n");
            }
            None => configuration += "unseal = \"custodians\"\n",
        }
        // The configuration takes no port that nobody knows.
        let ports = options.ports.then(address::free);
        if let Some([first, second]) = ports {
            configuration += &format!("listen-tcp = [\"{first}\", \"{second}\"]\n");
        }
        fs::write(root.join("engine.toml"), configuration + options.configuration).expect("a directory");
        Self { engines: run_engines(root), directory, ports }
    }

    /// Starts them again, and waits until they listen.
    ///
    /// # Panics
    ///
    /// If they don't.
    pub fn start_engines(&mut self) {
        self.engines = run_engines(self.directory.path());
    }

    /// Ends all of them by a signal to their supervisor, and waits until that has ended.
    ///
    /// # Panics
    ///
    /// If it doesn't end in time.
    pub fn stop_engines(&mut self, signal: Signal) {
        self.engines.signal(signal);
        self.engines.wait(PATIENCE);
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where a replica listens.
    pub fn socket(&self, replica: u16) -> PathBuf {
        replica::socket(&self.path("run"), replica)
    }

    /// Where both listen.
    pub fn endpoints(&self) -> [Endpoint; 2] {
        [0, 1].map(|replica| Endpoint::Unix(self.socket(replica)))
    }

    /// Where both listen for other machines.
    ///
    /// # Panics
    ///
    /// If it is a site without ports.
    #[track_caller]
    pub fn addresses(&self) -> [String; 2] {
        self.ports.expect("ports").map(|address| format!("tcp://localhost:{}", address.port()))
    }

    /// A command in its directory.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).env("XDG_RUNTIME_DIR", self.directory.path());
        command.args(arguments);
        command
    }

    /// `hsm` that speaks to some of the replicas.
    pub fn hsm_at(&self, replicas: &[u16], arguments: &[&str]) -> Command {
        let mut hsm = self.command(&binary("hsm"), &[]);
        for &replica in replicas {
            hsm.arg("--engine").arg(self.socket(replica));
        }
        hsm.args(arguments);
        hsm
    }

    /// What `hsm` that speaks to both replicas leaves behind.
    pub fn hsm(&self, arguments: &[&str]) -> Finished {
        run(&mut self.hsm_at(&[0, 1], arguments))
    }

    /// The same as a user.
    pub fn as_user(&self, user: &str, arguments: &[&str]) -> Finished {
        self.hsm(&[&["--user", user, "--password-file", user], arguments].concat())
    }

    /// What `hsm` tells programs, as a user.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn json(&self, user: &str, arguments: &[&str]) -> Value {
        let answer = self.as_user(user, &[&["--output", "json"], arguments].concat()).json();
        assert_eq!(answer["error_code"], 0, "{answer}");
        answer["data"].clone()
    }

    /// Makes the admin alice of an initialized cluster, and the crypto users web and ca.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn activate(&self) {
        self.hsm(&["cluster", "activate", "--admin", "alice", "--new-password-file", "alice"]).success();
        for user in ["web", "ca"] {
            let create = ["user", "create", user, "--role", "crypto-user", "--new-password-file", user];
            self.as_user("alice", &create).success();
        }
    }

    /// A client that is logged in as web.
    ///
    /// # Panics
    ///
    /// If nobody logs it in.
    #[track_caller]
    pub fn client(&self, endpoints: &[Endpoint]) -> Client {
        let mut client = Client::connect(endpoints, PATIENCE).expect("an engine");
        let web = Identity::from_file("web".parse().expect("a name"), &self.path("web"));
        client.login(&web.expect("a password")).expect("a login");
        client
    }

    /// Makes Ed25519 keys of web's quickly, without a program for each.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn make_keys(&self, count: u32) {
        let mut client = self.client(&self.endpoints());
        for n in 0..count {
            let mut key = [0; 16];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let label = format!("many-{n}").parse().expect("a label");
            let (algorithm, template) = (KeyAlgorithm::Ed25519, KeyTemplate::new(label, Attributes::SIGN));
            let generate = GenerateKey { idempotency_key: IdempotencyKey(key), algorithm, template };
            client.call(&generate).expect("a key");
        }
    }

    /// Process id of a replica, once it listens.
    ///
    /// # Panics
    ///
    /// If it doesn't in time.
    #[track_caller]
    pub fn pid(&self, replica: u16) -> i32 {
        replica::pid(&self.path("run"), replica)
    }

    /// Kills a replica; its process id. Another one comes in its place.
    ///
    /// # Panics
    ///
    /// If it doesn't run.
    #[track_caller]
    pub fn kill(&self, replica: u16) -> i32 {
        replica::signal(&self.path("run"), replica, Signal::KILL)
    }

    /// Waits until another one listens in the place of a replica that was killed.
    ///
    /// # Panics
    ///
    /// If none does in time.
    #[track_caller]
    pub fn await_another(&self, replica: u16, killed: i32) {
        wait::until("another replica is in its place", PATIENCE, || {
            (self.pid(replica) != killed).then_some(())
        });
    }
}

fn run_engines(directory: &Path) -> Program {
    let mut engine = Command::new(binary("hsm-engine"));
    engine.args(["run", "--config"]).arg(directory.join("engine.toml")).stdin(Stdio::null());
    let engines = Program::start(engine.env_remove("CREDENTIALS_DIRECTORY"));
    for number in [0, 1] {
        replica::pid(&directory.join("run"), number);
    }
    engines
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
