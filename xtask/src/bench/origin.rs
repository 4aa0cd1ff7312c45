//! The web server behind all that are compared: nginx, on the client's core, with static answers.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cores::Cores;
use super::peers::free_address;
use crate::error::Error;
use crate::process::{Server, find};

/// Of `/large`: 100 MB.
const LARGE: u64 = 100_000_000;

const STARTING: Duration = Duration::from_secs(10);

/// Ended when dropped.
pub(crate) struct Origin {
    _server: Server,
    address: SocketAddr,
}

impl Origin {
    pub(crate) fn start(scratch: &Path, cores: &Cores) -> Result<Self, Error> {
        let nginx = find("nginx").ok_or(Error::MissingTool("nginx"))?;
        let (address, home) = (free_address()?, scratch.join("origin"));
        std::fs::create_dir(&home).map_err(Error::file(&home))?;
        let large = home.join("large");
        std::fs::File::create(&large).and_then(|file| file.set_len(LARGE)).map_err(Error::file(&large))?;
        let config = home.join("nginx.conf");
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let text = format!(
            "daemon off; worker_processes 1; {user} pid nginx.pid; error_log stderr error;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off; sendfile on; keepalive_requests 1000000000;\n\
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen {address}; location = /small {{ return 200 \"hello\"; }} root {root}; }}\n}}\n",
            root = home.display(),
        );
        std::fs::write(&config, text).map_err(Error::file(&config))?;
        let mut command = Command::new(nginx);
        command.arg("-p").arg(&home).arg("-c").arg(&config).args(["-e", "stderr"]);
        let mut server = cores.on_client(|| Server::start(command, &home.join("log")))?;
        let accepts = || TcpStream::connect(address).is_ok();
        server.await_ready("the web server behind", &address, STARTING, accepts)?;
        Ok(Self { _server: server, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
