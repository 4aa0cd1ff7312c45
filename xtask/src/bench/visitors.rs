//! Other clients than those that load a server: attackers, a bystander, and those who keep a connection and do nothing.

use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use super::cores::Cores;
use super::peers::Peer;
use crate::error::Error;
use crate::process::{Companion, report_of};

/// Starts `hsm-bench-clients` on the clients' core.
pub(super) struct Visitors<'a> {
    pub(super) programs: &'a Path,
    pub(super) cores: &'a Cores,
}

impl Visitors<'_> {
    /// Runs one of the clients to its end; its report.
    pub(super) fn client(&self, server: &Peer, what: &str, arguments: &[&str]) -> Result<Value, Error> {
        let command = self.client_command(server, what, arguments);
        self.cores.on_client(|| report_of(command))
    }

    /// Starts one of the clients, at the least priority if it is an attacker: his machine is not the bystander's.
    pub(super) fn start_client(
        &self,
        server: &Peer,
        what: &str,
        arguments: &[&str],
    ) -> Result<Companion, Error> {
        let command = self.client_command(server, what, arguments);
        self.cores.on_client(|| Companion::start(command))
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

/// Lets this process and all that it starts open as many files as they may.
pub(super) fn raise_file_limit() -> Result<(), Error> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|error| Error::System(error.into()))
}
