//! The servers that are compared: how each is started, and with what configuration.

mod haproxy;
mod in_process;
mod nginx;
mod ours;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use serde::Serialize;
use tempfile::TempDir;

use super::certificates::Certificates;
use super::cores::{Cores, census, cpu_time};
use super::origin::Origin;
use crate::error::Error;
use crate::process::{Server, find};

pub(crate) use ours::Cluster;

/// How long a server may take to serve.
const STARTING: Duration = Duration::from_secs(60);

/// A server, up and measured in turns.
pub(crate) struct Peer {
    kind: Kind,
    version: String,
    /// The program that listens is the first.
    programs: Vec<Program>,
    address: SocketAddr,
    ca: PathBuf,
}

/// A program with all its processes.
struct Program {
    name: &'static str,
    server: Server,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// `hsm-proxy run`, and a supervisor with two engines.
    Ours,
    /// The same proxy with its key in its own memory.
    InProcess,
    Nginx,
    /// nginx whose key is in SoftHSM, by OpenSSL's PKCS#11 engine.
    Softhsm,
    Haproxy,
}

/// What the servers of a benchmark have in common: a directory, certificates, and a web server behind.
pub(crate) struct Stage<'a> {
    programs: &'a Path,
    cores: &'a Cores,
    certificates: Certificates,
    origin: Origin,
    // The last: what is in it has ended before.
    directory: TempDir,
}

impl<'a> Stage<'a> {
    /// Makes the certificates and starts the web server.
    pub(crate) fn set(programs: &'a Path, cores: &'a Cores) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("hsm-bench-").tempdir()?;
        let certificates = Certificates::make(directory.path())?;
        let origin = Origin::start(directory.path(), cores)?;
        Ok(Self { programs, cores, certificates, origin, directory })
    }

    /// For a server with nothing unusual.
    pub(crate) fn setting(&self) -> Setting<'_> {
        let Self { programs, cores, certificates, origin, directory } = self;
        let scratch = directory.path();
        Setting { programs, scratch, certificates, origin, cores, patient: false, valgrind: None }
    }
}

/// What every server is started with.
pub(crate) struct Setting<'a> {
    pub(crate) programs: &'a Path,
    pub(crate) scratch: &'a Path,
    pub(crate) certificates: &'a Certificates,
    pub(crate) origin: &'a Origin,
    pub(crate) cores: &'a Cores,
    /// Whether connections may be idle for an hour, and thousands of them.
    pub(crate) patient: bool,
    /// What counts the instructions of hsm-proxy and its engine, where they are counted.
    pub(crate) valgrind: Option<PathBuf>,
}

impl Peer {
    /// All that are installed; nginx must be.
    pub(crate) fn start_all(setting: &Setting<'_>) -> Result<Vec<Self>, Error> {
        super::cores::check_accounting()?;
        let nginx = find("nginx").ok_or(Error::MissingTool("nginx"))?;
        let mut peers = vec![
            ours::start(setting)?,
            in_process::start(setting)?,
            nginx::start(&nginx, setting, &nginx::Keys::Files)?,
        ];
        match nginx::Keys::softhsm(setting)? {
            Some(keys) => peers.push(nginx::start(&nginx, setting, &keys)?),
            None => println!(
                "not measured: nginx with SoftHSM (Debian: apt install softhsm2 libengine-pkcs11-openssl)"
            ),
        }
        match find("haproxy") {
            Some(haproxy) => peers.push(haproxy::start(&haproxy, setting)?),
            None => println!("not measured: HAProxy (Debian: apt install haproxy)"),
        }
        Ok(peers)
    }

    /// hsm-proxy and its engines.
    pub(crate) fn ours(setting: &Setting<'_>) -> Result<Self, Error> {
        ours::start(setting)
    }

    /// nginx with its keys in files.
    pub(crate) fn nginx(setting: &Setting<'_>) -> Result<Self, Error> {
        let nginx = find("nginx").ok_or(Error::MissingTool("nginx"))?;
        nginx::start(&nginx, setting, &nginx::Keys::Files)
    }

    /// The process that listens, or its parent.
    pub(crate) fn pid(&self) -> Result<Pid, Error> {
        let listener = self.programs.first().map(|program| program.server.pid());
        listener.ok_or_else(|| Error::LoadReport(format!("{} has no process", self.name())))
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// CPU time so far of each of its programs, all processes of it.
    pub(crate) fn cpu_times(&self) -> Result<Vec<(&'static str, Duration)>, Error> {
        self.programs.iter().map(|program| Ok((program.name, cpu_time(program.server.pid())?))).collect()
    }

    /// Processes and threads.
    pub(crate) fn census(&self) -> Result<(usize, usize), Error> {
        self.programs.iter().try_fold((0, 0), |(processes, threads), program| {
            let (more_processes, more_threads) = census(program.server.pid())?;
            Ok((processes + more_processes, threads + more_threads))
        })
    }

    /// The name and the first process of each of its programs.
    pub(crate) fn programs(&self) -> impl Iterator<Item = (&'static str, Pid)> {
        self.programs.iter().map(|program| (program.name, program.server.pid()))
    }

    /// A server that ended has no figures.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        for program in &mut self.programs {
            if let Some(status) = program.server.ended()? {
                return Err(Error::Ended {
                    name: program.name.to_owned(),
                    status,
                    log: program.server.log(),
                });
            }
        }
        Ok(())
    }

    /// Ends its programs, that which listens first; each must end by itself, and with success.
    pub(crate) fn end(self) -> Result<(), Error> {
        self.programs.into_iter().try_for_each(|program| program.server.end(program.name))
    }

    /// Waits until it accepts connections.
    fn ready(mut self) -> Result<Self, Error> {
        let (name, address) = (self.name(), self.address);
        let accepts = || TcpStream::connect(address).is_ok();
        if let Some(listener) = self.programs.first_mut() {
            listener.server.await_ready(name, &address, STARTING, accepts)?;
        }
        Ok(self)
    }
}

impl Program {
    fn start(name: &'static str, command: Command, setting: &Setting<'_>, log: &Path) -> Result<Self, Error> {
        Ok(Self { name, server: setting.cores.on_server(|| Server::start(command, log))? })
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "hsm-proxy + 2 engines",
            Self::InProcess => "the same, key in process",
            Self::Nginx => "nginx, key in a file",
            Self::Softhsm => "nginx, key in SoftHSM",
            Self::Haproxy => "HAProxy, key in a file",
        }
    }
}

/// A directory for what a server writes.
fn home(setting: &Setting<'_>, name: &str) -> Result<PathBuf, Error> {
    let home = setting.scratch.join(name);
    std::fs::create_dir(&home).map_err(Error::file(&home))?;
    Ok(home)
}

/// Writes a server's configuration.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::file(path))
}

/// One that nobody listens on, and that was not given out before. Somebody else could take the port before the server does; then
/// that server doesn't start, and says so.
pub(crate) fn free_address() -> Result<SocketAddr, Error> {
    static GIVEN: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Held until one is new: the kernel may name a port again that is free.
    let mut refused = Vec::new();
    loop {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        if !given.contains(&address) {
            given.push(address);
            return Ok(address);
        }
        refused.push(listener);
    }
}
