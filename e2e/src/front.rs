//! `hsm-proxy run`, as a service manager starts it.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::address;
use crate::program::{Program, binary, run};
use crate::stack::Stack;

/// `hsm-proxy run` beside the `dev` that made its cluster, and what it tells its service manager.
#[derive(Debug)]
pub struct Front {
    program: Program,
    /// Its configuration.
    pub file: PathBuf,
    /// The certificate of its site, `localhost`.
    pub certificate: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    notified: UnixDatagram,
}

impl Front {
    /// Starts it with its files in `directory`, in front of the upstream `to`, and awaits that it is ready.
    ///
    /// # Panics
    ///
    /// If it isn't.
    pub fn start(stack: &Stack, directory: &Path, to: &str) -> Self {
        let [address] = address::free();
        Self::start_by(Command::new(binary("hsm-proxy")), address, stack, directory, to)
    }

    /// The same by a command to which its arguments are added.
    ///
    /// # Panics
    ///
    /// If it isn't ready in time.
    pub fn start_by(
        mut command: Command,
        address: SocketAddr,
        stack: &Stack,
        directory: &Path,
        to: &str,
    ) -> Self {
        let certificate = directory.join("localhost.pem");
        std::fs::copy(stack.state_dir().join("localhost.pem"), &certificate).expect("a certificate");
        let file = directory.join("proxy.toml");
        std::fs::write(&file, configuration(stack, &certificate, address, to)).expect("a directory");
        let notified = UnixDatagram::bind(directory.join("notify")).expect("a socket");
        notified.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        command.arg("run").arg("--config").arg(&file).env("NOTIFY_SOCKET", directory.join("notify"));
        let front = Self { program: Program::start(&mut command), file, certificate, address, notified };
        assert_eq!(front.told(), "READY=1");
        front
    }

    /// The process that was started.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// What the service manager is told next.
    ///
    /// # Panics
    ///
    /// If it is told nothing for a minute.
    #[track_caller]
    pub fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.notified.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// What it says after a reload, having said that one began.
    ///
    /// # Panics
    ///
    /// If it says anything else.
    #[track_caller]
    pub fn reloaded(&self) -> String {
        let began = self.told();
        let microseconds = began.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(microseconds.is_some_and(|number| number.parse::<u64>().is_ok()), "{began}");
        self.told()
    }

    /// The response to a request by curl.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn get(&self, stack: &Stack, curl: &Path) -> String {
        let url = format!("https://localhost:{}/hello", self.address.port());
        run(stack.curl(curl).arg(url)).success()
    }
}

/// A configuration of a proxy for `localhost` with the engines of `stack`.
pub fn configuration(stack: &Stack, certificate: &Path, address: SocketAddr, to: &str) -> String {
    format!(
        "[proxy]\nlisten = [\"{address}\"]\n[hsm]\nengines = [\"{run}/engine-0.sock\", \"{run}/engine-1.sock\"]\n\
         user = \"web\"\npassword-file = \"{state}/secrets/web-password\"\n\
         [[site]]\nhost = \"localhost\"\ncert = \"{cert}\"\nto = \"{to}\"\n",
        run = stack.state_dir().join("run").display(),
        state = stack.state_dir().display(),
        cert = certificate.display(),
    )
}

/// Puts `content` under the name in one step.
///
/// # Panics
///
/// If it can't be written.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).and_then(|()| std::fs::rename(&new, path)).expect("a directory");
}
