//! `hsm-proxy run` and its engines, as docs/operations.md sets them up; the keys of the certificates are imported.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use super::{Kind, Peer, Program, STARTING, Setting, free_address, home, write};
use crate::bench::cores::version_of;
use crate::bench::scenario::Site;
use crate::error::Error;
use crate::process::Server;

/// Taken for a key, as those of engines in service are: a passphrase would be stretched at each start.
const UNSEAL_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Nothing here is secret: the cluster lives in a temporary directory for as long as the benchmark.
const PASSWORD: &str = "the benchmark's password";

/// The engines of a benchmark, and the programs that speak to them.
pub(crate) struct Cluster {
    home: PathBuf,
    programs: PathBuf,
}

pub(super) fn start(setting: &Setting<'_>) -> Result<Peer, Error> {
    let home = home(setting, "ours")?;
    let cluster = Cluster { home: home.clone(), programs: setting.programs.to_owned() };
    let mut engines = cluster.start_engines(setting)?;
    cluster.await_engines(&mut engines, replicas(setting))?;
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
        Self { home: setting.scratch.join("ours"), programs: setting.programs.to_owned() }
    }

    /// Process id of a replica.
    pub(crate) fn replica(&self, index: u16) -> Result<Pid, Error> {
        let path = self.home.join(format!("run/engine-{index}.pid"));
        let text = std::fs::read_to_string(&path).map_err(Error::file(&path))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::LoadReport(format!("{} holds no process id", path.display())))
    }

    pub(crate) fn socket(&self, index: u16) -> PathBuf {
        self.home.join(format!("run/engine-{index}.sock"))
    }

    pub(crate) fn password(&self) -> PathBuf {
        self.home.join("password")
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
        let path = |name: &str| self.home.join(name);
        let mut text = format!(
            "state-dir = {:?}\nsocket-dir = {:?}\nunseal-file = {:?}\n",
            path("state"),
            path("run"),
            path("unseal")
        );
        if setting.valgrind.is_some() {
            // valgrind asks the kernel for more than the engine may.
            text.push_str("replicas = 1\nsandbox = \"off\"\n");
        }
        write(&path("engine.toml"), &text)?;
        for (name, secret) in [("unseal", UNSEAL_KEY), ("password", PASSWORD)] {
            write(&path(name), secret)?;
            std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o600))
                .map_err(Error::file(path(name)))?;
        }
        let mut command = counted(setting, &self.programs.join("hsm-engine"), &path("engine.callgrind"));
        if setting.valgrind.is_none() {
            command.args(["run", "--config"]).arg(path("engine.toml"));
            return Program::start("hsm-engine", command, setting, &path("engine.log"));
        }
        // A supervisor starts what the kernel calls its program, which here is valgrind.
        for directory in ["state", "run"] {
            std::fs::create_dir(path(directory)).map_err(Error::file(path(directory)))?;
            std::fs::set_permissions(path(directory), PermissionsExt::from_mode(0o700))
                .map_err(Error::file(path(directory)))?;
        }
        command.args(["replica", "--index", "0", "--config"]).arg(path("engine.toml"));
        let server = setting.cores.on_server(|| Server::start_with_lifeline(command, &path("engine.log")))?;
        Ok(Program { name: "hsm-engine", server })
    }

    fn await_engines(&self, engines: &mut Program, replicas: u16) -> Result<(), Error> {
        (0..replicas).try_for_each(|index| {
            let socket = self.socket(index);
            let accepts = || UnixStream::connect(&socket).is_ok();
            engines.server.await_ready(engines.name, &socket.display(), STARTING, accepts)
        })
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
