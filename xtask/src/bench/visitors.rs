//! Other clients than those that load a server: attackers, a bystander, and those who keep a connection and do nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use super::cores::Cores;
use super::peers::Peer;
use crate::error::Error;
use crate::process::output_of;

/// Starts `hsm-bench-clients` on the clients' core.
pub(super) struct Visitors<'a> {
    pub(super) programs: &'a Path,
    pub(super) cores: &'a Cores,
}

impl Visitors<'_> {
    /// Runs one of the clients to its end; its report.
    pub(super) fn client(&self, server: &Peer, what: &str, arguments: &[&str]) -> Result<Value, Error> {
        let command = self.client_command(server, what, arguments);
        let text = self.cores.on_client(|| output_of(command))?;
        serde_json::from_str(&text).map_err(|error| Error::LoadReport(format!("{error} in {text:?}")))
    }

    /// Starts one of the clients, at the least priority if it is an attacker: his machine is not the bystander's.
    pub(super) fn start_client(
        &self,
        server: &Peer,
        what: &str,
        arguments: &[&str],
    ) -> Result<Running, Error> {
        let mut command = self.client_command(server, what, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let program = command.get_program().display().to_string();
        let start = || command.spawn().map_err(|source| Error::Start { program, source });
        let mut child = self.cores.on_client(start)?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Running { child, output })
    }

    fn client_command(&self, server: &Peer, what: &str, arguments: &[&str]) -> Command {
        let program = self.programs.join("hsm-bench-clients");
        let mut command = if what == "flood" {
            let mut command = Command::new("nice");
            command.args(["-n", "19"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg(what).args(["--connect", &server.address().to_string(), "--ca"]).arg(server.ca());
        command.args(arguments);
        command
    }
}

/// A client that runs beside the measurement, and ends when it is dropped.
pub(super) struct Running {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line that it says.
    pub(super) fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        if let Some(output) = &mut self.output {
            output.read_line(&mut line)?;
        }
        if line.is_empty() {
            let status = self.child.wait()?;
            return Err(Error::Failed { what: "hsm-bench-clients".to_owned(), status });
        }
        Ok(line.trim().to_owned())
    }

    /// Waits for its end; its report.
    pub(super) fn report(mut self) -> Result<Value, Error> {
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|error| Error::LoadReport(format!("{error} in {line:?}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Lets this process and all that it starts open as many files as they may.
pub(super) fn raise_file_limit() -> Result<(), Error> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|error| Error::System(error.into()))
}
