//! `hsm-proxy run` and its engines, as docs/operations.md sets them up; the keys of the certificates are imported.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use super::{Kind, Peer, Program, Setting, free_address, home, write};
use crate::bench::cores::version_of;
use crate::bench::engine_process::PASSWORD;
use crate::bench::scenario::Site;
use crate::engine_directory::EngineDirectory;
use crate::error::Error;
use crate::process::Server;

/// The engines of a benchmark, and the programs that speak to them.
pub(crate) struct Cluster {
    directory: EngineDirectory,
    programs: PathBuf,
}

pub(super) fn start(setting: &Setting<'_>) -> Result<Peer, Error> {
    let home = home(setting, "ours")?;
    let cluster = Cluster::of(setting);
    let mut engines = cluster.start_engines(setting)?;
    cluster.directory.await_ready(&mut engines.server, replicas(setting))?;
    cluster.provision(setting)?;

    let (address, config) = (free_address()?, home.join("hsm-proxy.toml"));
    let mut text = format!(
        "[proxy]\nlisten = [\"{address}\"]\nadmin-listen = \"{admin}\"\n\
         [hsm]\nuser = \"web\"\npassword-file = {password:?}\nengines = {engines:?}\n\
         [log]\naccess = {log:?}\nformat = \"combined\"\n",
        admin = free_address()?,
        password = cluster.password(),
        engines = (0..replicas(setting)).map(|index| cluster.socket(index)).collect::<Vec<_>>(),
        log = home.join("access.log"),
    );
    text.push_str(&sites(setting, &Site::ALL));
    if setting.patient {
        text.push_str("[timeouts]\nidle = \"1h\"\n");
        if setting.valgrind.is_some() {
            // Beside other work, what is fifty times as slow may take longer still.
            text.push_str("handshake = \"1m\"\nsign = \"1m\"\n");
        }
    }
    write(&config, &text)?;
    let program = setting.programs.join("hsm-proxy");
    let version = version_of(&program, "--version");
    let mut command = counted(setting, &program, &home.join("proxy.callgrind"));
    command.args(["run", "--config"]).arg(&config);
    let proxy = Program::start("hsm-proxy", command, setting, &home.join("proxy.log"))?;
    let ca = setting.certificates.ca.clone();
    Peer { kind: Kind::Ours, version, programs: vec![proxy, engines], address, ca }.ready()
}

/// Two as a rule. Where instructions are counted, one: a hedge, or a replica's turn, would be counted with them.
fn replicas(setting: &Setting<'_>) -> u16 {
    if setting.valgrind.is_some() { 1 } else { 2 }
}

/// The program, under callgrind where instructions are counted: what it counts goes to `counts`, with a number for each dump.
fn counted(setting: &Setting<'_>, program: &Path, counts: &Path) -> Command {
    let Some(valgrind) = &setting.valgrind else { return Command::new(program) };
    let mut command = Command::new(valgrind);
    command.args(["--tool=callgrind", "--vgdb-prefix=vgdb"]).current_dir(setting.scratch);
    command.arg(format!("--callgrind-out-file={}", counts.display())).arg(program);
    command
}

/// `[[site]]` tables.
pub(super) fn sites(setting: &Setting<'_>, sites: &[Site]) -> String {
    sites
        .iter()
        .map(|site| {
            format!(
                "[[site]]\nhost = \"{host}\"\ncert = {chain:?}\nto = \"http://{origin}\"\n",
                host = site.host(),
                chain = setting.certificates.of(*site).chain,
                origin = setting.origin.address(),
            )
        })
        .collect()
}

impl Cluster {
    /// That of [`start`] with the same setting.
    pub(crate) fn of(setting: &Setting<'_>) -> Self {
        let directory = EngineDirectory::at(&setting.scratch.join("ours"));
        Self { directory, programs: setting.programs.to_owned() }
    }

    /// Process id of a replica.
    pub(crate) fn replica(&self, index: u16) -> Result<Pid, Error> {
        self.directory.replica(index)
    }

    pub(crate) fn socket(&self, index: u16) -> PathBuf {
        self.directory.socket(index)
    }

    pub(crate) fn password(&self) -> PathBuf {
        self.directory.path("password")
    }

    /// Makes a crypto user.
    pub(crate) fn add_user(&self, name: &str) -> Result<(), Error> {
        self.hsm(&["--user", "admin", "--password-file"], |command| {
            command.arg(self.password()).args(["user", "create", name, "--role", "crypto-user"]);
            command.arg("--new-password-file").arg(self.password());
        })
    }

    /// Runs `hsm` as a crypto user.
    pub(crate) fn as_user(&self, user: &str, arguments: &[&str]) -> Result<(), Error> {
        self.hsm(&["--user", user, "--password-file"], |command| {
            command.arg(self.password()).args(arguments);
        })
    }

    fn start_engines(&self, setting: &Setting<'_>) -> Result<Program, Error> {
        let (directory, by_valgrind) = (&self.directory, setting.valgrind.is_some());
        // valgrind asks the kernel for more than the engine may.
        directory.prepare(if by_valgrind { "replicas = 1\nsandbox = \"off\"" } else { "" })?;
        directory.write_secret("password", PASSWORD)?;
        let program = self.programs.join("hsm-engine");
        let mut command = counted(setting, &program, &directory.path("engine.callgrind"));
        let log = directory.path("engine.log");
        if !by_valgrind {
            command.args(["run", "--config"]).arg(directory.configuration());
            return Program::start("hsm-engine", command, setting, &log);
        }
        // A supervisor starts what the kernel calls its program, which here is valgrind.
        directory.make_directories(&["state", "run"])?;
        command.args(["replica", "--index", "0", "--config"]).arg(directory.configuration());
        let server = setting.cores.on_server(|| Server::start_with_lifeline(command, &log))?;
        Ok(Program { name: "hsm-engine", server })
    }

    fn provision(&self, setting: &Setting<'_>) -> Result<(), Error> {
        self.hsm(&["cluster", "init"], |_| {})?;
        self.hsm(&["cluster", "activate", "--admin", "admin", "--new-password-file"], |command| {
            command.arg(self.password());
        })?;
        self.add_user("web")?;
        for site in Site::ALL {
            let key = setting.certificates.of(site).key.display().to_string();
            self.as_user(
                "web",
                &["key", "import", "--label", site.label(), "--usage", "tls-server", "--file", &key],
            )?;
        }
        Ok(())
    }

    fn hsm(&self, first: &[&str], more: impl FnOnce(&mut Command)) -> Result<(), Error> {
        let mut command = Command::new(self.programs.join("hsm"));
        command.arg("--engine").arg(self.socket(0)).args(first);
        more(&mut command);
        // What it says when all is well is for people.
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        Err(Error::Failed { what: format!("hsm {}", first.join(" ")), status: output.status })
    }
}
