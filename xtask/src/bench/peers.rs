//! The servers that are compared: how each is started, and with what configuration.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::certificate::Certificate;
use super::cores::{Cores, census, version_of};
use crate::error::Error;
use crate::process::{Server, find};

/// How long a server may take to serve; the first run of `hsm-proxy dev` makes keys and hashes passwords.
const STARTING: Duration = Duration::from_secs(60);

/// A server, up and measured in turns.
pub(crate) struct Peer {
    kind: Kind,
    version: String,
    server: Server,
    address: SocketAddr,
    ca: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// `hsm-proxy dev`: proxy, supervisor and two engines.
    Ours,
    /// The same proxy with its key in its own memory.
    InProcess,
    Nginx,
    Haproxy,
}

impl Peer {
    /// All that are installed; nginx must be.
    pub(crate) fn start_all(
        programs: &Path,
        scratch: &Path,
        certificate: &Certificate,
        cores: &Cores,
    ) -> Result<Vec<Self>, Error> {
        super::cores::check_accounting()?;
        let nginx = find("nginx").ok_or(Error::MissingTool("nginx"))?;
        let mut peers = vec![
            ours(&programs.join("hsm-proxy"), scratch, cores)?,
            in_process(&programs.join("hsm-bench-inprocess"), scratch, certificate, cores)?,
            start_nginx(&nginx, scratch, certificate, cores)?,
        ];
        if let Some(haproxy) = find("haproxy") {
            peers.push(start_haproxy(&haproxy, scratch, certificate, cores)?);
        }
        Ok(peers)
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

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        self.server.pid()
    }

    /// Processes and threads.
    pub(crate) fn census(&self) -> Result<(usize, usize), Error> {
        census(self.pid())
    }

    /// A server that ended has no figures.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.server.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(Error::Ended { name: self.name().to_owned(), status, log: self.server.log() })
            }
        }
    }

    fn start(
        kind: Kind,
        version: String,
        command: Command,
        address: SocketAddr,
        ca: PathBuf,
        scratch: &Path,
        cores: &Cores,
    ) -> Result<Self, Error> {
        let log = scratch.join(format!("{}.log", kind.file_name()));
        let server = cores.on_server(|| Server::start(command, &log))?;
        let mut peer = Self { kind, version, server, address, ca };
        let deadline = Instant::now() + STARTING;
        while TcpStream::connect(peer.address).is_err() || !peer.ca.exists() {
            peer.check()?;
            if Instant::now() > deadline {
                let (name, address) = (peer.name().to_owned(), peer.address.to_string());
                return Err(Error::NotReady { name, address, limit: STARTING, log: peer.server.log() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "hsm-proxy + 2 engines",
            Self::InProcess => "the same, key in process",
            Self::Nginx => "nginx, key in a file",
            Self::Haproxy => "HAProxy, key in a file",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::InProcess => "in-process",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// The least that our rate should be, divided by this one's.
    pub(crate) fn goal(self) -> Option<f64> {
        match self {
            Self::Ours | Self::Haproxy => None,
            Self::InProcess => Some(0.90),
            Self::Nginx => Some(1.8),
        }
    }
}

/// As a user runs it; one core gives it one worker.
fn ours(program: &Path, scratch: &Path, cores: &Cores) -> Result<Peer, Error> {
    let (address, state) = (free_address()?, scratch.join("state"));
    let mut command = Command::new(program);
    command.args(["dev", "--listen", &address.to_string(), "--state-dir"]).arg(&state);
    let ca = state.join("ca.pem");
    Peer::start(Kind::Ours, version_of(program, "--version"), command, address, ca, scratch, cores)
}

fn in_process(
    program: &Path,
    scratch: &Path,
    certificate: &Certificate,
    cores: &Cores,
) -> Result<Peer, Error> {
    let (address, config) = (free_address()?, scratch.join("in-process.toml"));
    // No request is ever made, so the upstream may be nobody.
    let text = format!(
        "[proxy]\nlisten = [\"{address}\"]\n\
         [[site]]\nhost = \"localhost\"\ncert = \"{chain}\"\nto = \"http://127.0.0.1:9\"\n",
        chain = certificate.chain.display(),
    );
    std::fs::write(&config, text).map_err(Error::file(&config))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).arg("--key").arg(&certificate.key);
    let version = version_of(program, "--version");
    Peer::start(Kind::InProcess, version, command, address, certificate.ca.clone(), scratch, cores)
}

fn start_nginx(
    program: &Path,
    scratch: &Path,
    certificate: &Certificate,
    cores: &Cores,
) -> Result<Peer, Error> {
    let (address, home) = (free_address()?, scratch.join("nginx"));
    std::fs::create_dir(&home).map_err(Error::file(&home))?;
    let config = home.join("nginx.conf");
    // Workers of a root's nginx would be nobody's, who can't read the scratch directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let text = format!(
        "daemon off; worker_processes 1; {user} pid nginx.pid; error_log stderr error;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         server {{\n    listen {address} ssl;\n    server_name localhost;\n\
         ssl_certificate {chain};\n    ssl_certificate_key {key};\n\
         ssl_protocols TLSv1.3;\n    ssl_ecdh_curve X25519;\n\
         ssl_conf_command NumTickets 1;\n    return 200 \"ok\";\n  }}\n}}\n",
        chain = certificate.chain.display(),
        key = certificate.key.display(),
    );
    std::fs::write(&config, text).map_err(Error::file(&config))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&home).arg("-c").arg(&config).args(["-e", "stderr"]);
    let version = version_of(program, "-v");
    Peer::start(Kind::Nginx, version, command, address, certificate.ca.clone(), scratch, cores)
}

fn start_haproxy(
    program: &Path,
    scratch: &Path,
    certificate: &Certificate,
    cores: &Cores,
) -> Result<Peer, Error> {
    let (address, config) = (free_address()?, scratch.join("haproxy.cfg"));
    let text = format!(
        "global\n  nbthread 1\n  ssl-default-bind-curves X25519\n\
         defaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 10s\n\
         frontend tls\n  bind {address} ssl crt {both} ssl-min-ver TLSv1.3\n  http-request return status 200\n",
        both = certificate.both.display(),
    );
    std::fs::write(&config, text).map_err(Error::file(&config))?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&config);
    let version = version_of(program, "-v");
    Peer::start(Kind::Haproxy, version, command, address, certificate.ca.clone(), scratch, cores)
}

/// Somebody else could take the port before the server does; then that server doesn't start, and says so.
fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
