//! `hsm-proxy dev`, as a user starts it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;

use crate::program::{Program, binary};
use crate::replica;

/// How to start the stack.
#[derive(Debug, Default)]
pub struct StackOptions {
    /// Upstream; none for the built-in page.
    pub to: Option<String>,
    /// Where its state is; a temporary directory if none is given.
    pub state_dir: Option<PathBuf>,
}

/// A running `hsm-proxy dev` with its engines. Dropping it kills the proxy; the engines end with it.
#[derive(Debug)]
pub struct Stack {
    proxy: Program,
    state_dir: PathBuf,
    address: SocketAddr,
    /// Everything printed up to `ready`.
    pub greeting: String,
    _temporary: Option<tempfile::TempDir>,
}

impl Stack {
    /// Starts with a fresh state directory and the built-in page.
    pub fn start() -> Self {
        Self::start_with(StackOptions::default())
    }

    /// Starts in front of an upstream.
    pub fn in_front_of(to: &str) -> Self {
        Self::start_with(StackOptions { to: Some(to.to_owned()), ..StackOptions::default() })
    }

    /// Starts.
    ///
    /// # Panics
    ///
    /// If it isn't ready within 60 s.
    pub fn start_with(options: StackOptions) -> Self {
        let (state_dir, temporary) = match options.state_dir {
            Some(directory) => (directory, None),
            None => {
                let temporary = tempfile::tempdir().expect("a temporary directory");
                (temporary.path().join("state"), Some(temporary))
            }
        };
        let mut command = Command::new(binary("hsm-proxy"));
        command.args(["dev", "--listen", "127.0.0.1:0", "--state-dir"]).arg(&state_dir);
        if let Some(to) = &options.to {
            command.args(["--to", to]);
        }
        let mut proxy = Program::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let greeting = read_greeting(&mut proxy);
        let address = greeting
            .split_whitespace()
            .find_map(|word| {
                word.strip_prefix("https://localhost:")?.trim_end_matches('/').parse::<u16>().ok()
            })
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .unwrap_or_else(|| panic!("no URL in the greeting:\n{greeting}"));
        Self { proxy, state_dir, address, greeting, _temporary: temporary }
    }

    /// The process `hsm-proxy dev`.
    pub fn proxy(&mut self) -> &mut Program {
        &mut self.proxy
    }

    /// Process id of the proxy.
    pub fn proxy_pid(&self) -> i32 {
        self.proxy.pid().as_raw_nonzero().get()
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The CA's certificate.
    pub fn ca(&self) -> PathBuf {
        self.state_dir.join("ca.pem")
    }

    /// Socket of a replica.
    pub fn engine_socket(&self, replica: u16) -> PathBuf {
        replica::socket(&self.state_dir.join("run"), replica)
    }

    /// Process id of a replica that runs.
    #[track_caller]
    pub fn engine_pid(&self, replica: u16) -> i32 {
        replica::pid(&self.state_dir.join("run"), replica)
    }

    /// Signals a replica; its process id.
    #[track_caller]
    pub fn signal_engine(&self, replica: u16, signal: Signal) -> i32 {
        replica::signal(&self.state_dir.join("run"), replica, signal)
    }

    /// A curl that trusts the CA and asks the proxy.
    pub fn curl(&self, curl: &Path) -> Command {
        let mut command = Command::new(curl);
        command
            .args(["--silent", "--show-error", "--max-time", "120", "--noproxy", "*", "--cacert"])
            .arg(self.ca());
        command
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// `hsm`, speaking to these engines.
    pub fn hsm(&self) -> Command {
        let mut command = Command::new(binary("hsm"));
        command.env("HSM_ENGINES", format!("{}", self.engine_socket(0).display()));
        command.env("XDG_RUNTIME_DIR", self.state_dir.join("run"));
        command
    }

    /// The same as a user, with the password that is in the state directory.
    pub fn hsm_as(&self, user: &str) -> Command {
        let mut command = self.hsm();
        command.args(["--user", user, "--password-file"]).arg(self.password_file(user));
        command
    }

    /// Where the password of a user is.
    pub fn password_file(&self, user: &str) -> PathBuf {
        self.state_dir.join(format!("secrets/{user}-password"))
    }
}

fn read_greeting(proxy: &mut Program) -> String {
    let stdout = proxy.child().stdout.take().expect("a pipe");
    let (lines, greeting) = mpsc::channel();
    // Reads on after `ready`, so that the proxy never finds a closed pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _nobody_listens = lines.send(line);
        }
    });
    let mut text = String::new();
    loop {
        match greeting.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
                if line.starts_with("ready") {
                    return text;
                }
            }
            Err(_) => panic!("hsm-proxy dev is not ready; it said:\n{text}"),
        }
    }
}
