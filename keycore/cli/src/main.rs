//! `hsm`: the administrator's command line of an HSM cluster. `docs/cli.md` is its manual.

mod arguments;
mod audit;
mod backup;
mod cert;
mod cluster;
mod connection;
mod crypto;
mod failure;
mod file;
mod key;
mod key_argument;
mod login;
mod mechanism_argument;
mod output;
mod own_key;
mod password;
mod private_key;
mod quorum;
mod session;
mod sessions;
mod shell;
mod split;
mod user;
mod user_key;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Cli, Command};
use connection::Connection;
use failure::Failure;
use output::{Answer, Format};

fn main() -> ExitCode {
    let Cli { connection, output, command } = Cli::parse();
    // Passwords and imported keys pass through: no core dump, no debugger. Where the kernel refuses, hsm still works.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    output.print(run(&connection, output, command))
}

fn run(connection: &Connection, output: Format, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Cluster(command) => command.run(connection),
        Command::Login(login) => login.run(connection),
        Command::Logout => login::log_out(connection),
        Command::Session(command) => command.run(connection),
        Command::User(command) => command.run(connection),
        Command::Quorum(command) => command.run(connection),
        Command::Key(command) => command.run(connection),
        Command::Crypto(command) => command.run(connection),
        Command::Cert(command) => command.run(connection),
        Command::Backup(command) => command.run(connection),
        Command::Audit(command) => command.run(connection, output),
        Command::Completions { shell } => Ok(shell::completions(shell)),
        Command::Man { directory } => shell::man_pages(&directory),
    }
}
