//! Other programs: run to their end, or kept while a measurement needs them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::error::Error;

/// How long a server may take to end by itself before it is killed.
const ENDING: Duration = Duration::from_secs(10);

/// Runs a program to its end; it must succeed.
pub(crate) fn run(mut command: Command, what: &str) -> Result<(), Error> {
    let status = command.status().map_err(|source| start_error(&command, source))?;
    if status.success() { Ok(()) } else { Err(Error::Failed { what: what.to_owned(), status }) }
}

/// Runs a program to its end and gives its standard output; it must succeed.
pub(crate) fn output_of(mut command: Command) -> Result<String, Error> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|source| start_error(&command, source))?;
    if !output.status.success() {
        return Err(Error::Failed { what: name(&command), status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end and gives its report, one value of JSON; it must succeed.
pub(crate) fn report_of(command: Command) -> Result<Value, Error> {
    report(&output_of(command)?)
}

fn report(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::LoadReport(format!("{error} in {text:?}")))
}

/// Looks for a program on `PATH`, and in `/usr/sbin`, where servers live.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A server under measurement. Ended when dropped: first politely, then not.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it with its output in the file `log`.
    pub(crate) fn start(command: Command, log: &Path) -> Result<Self, Error> {
        Self::start_with(command, Stdio::null(), log)
    }

    /// The same for a program that lives no longer than a pipe to it is open.
    pub(crate) fn start_with_lifeline(command: Command, log: &Path) -> Result<Self, Error> {
        Self::start_with(command, Stdio::piped(), log)
    }

    fn start_with(mut command: Command, input: Stdio, log: &Path) -> Result<Self, Error> {
        let file = File::create(log).map_err(Error::file(log))?;
        let errors = file.try_clone().map_err(Error::file(log))?;
        command.stdin(input).stdout(file).stderr(errors);
        let child = command.spawn().map_err(|source| start_error(&command, source))?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it `accepts`; `name` and `address` are for the error if it ends before, or takes longer than `limit`.
    pub(crate) fn await_ready(
        &mut self,
        name: &str,
        address: &impl ToString,
        limit: Duration,
        accepts: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        while !accepts() {
            if let Some(status) = self.ended()? {
                return Err(Error::Ended { name: name.to_owned(), status, log: self.log() });
            }
            if Instant::now() > deadline {
                let (name, address) = (name.to_owned(), address.to_string());
                return Err(Error::NotReady { name, address, limit, log: self.log() });
            }
            // Short, since some measure how long it takes.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends it as its operator would; it must end by itself, and with success. `name` is for the error.
    pub(crate) fn end(mut self, name: &str) -> Result<(), Error> {
        match self.terminate() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Error::BadEnd { name: name.to_owned(), status, log: self.log() }),
            None => {
                self.kill();
                Err(Error::NoEnd { name: name.to_owned(), limit: ENDING, log: self.log() })
            }
        }
    }

    /// Asks it to end, and waits; gives how it ended, if it has.
    fn terminate(&mut self) -> Option<ExitStatus> {
        // Once it was waited for, its pid may be another's.
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        let _gone = kill_process(self.pid(), Signal::TERM);
        let deadline = Instant::now() + ENDING;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(4096)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.terminate().is_none() {
            self.kill();
        }
    }
}

/// A program that runs beside the measurement and is spoken with by lines. Ended when dropped.
pub(crate) struct Companion {
    name: String,
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Companion {
    /// Starts it with pipes to its standard input and from its standard output.
    pub(crate) fn start(mut command: Command) -> Result<Self, Error> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|source| start_error(&command, source))?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { name: name(&command), child, output })
    }

    /// Tells it a line.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Error> {
        if let Some(input) = &mut self.child.stdin {
            writeln!(input, "{line}")?;
        }
        Ok(())
    }

    /// The next line that it says.
    pub(crate) fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        if let Some(output) = &mut self.output {
            output.read_line(&mut line)?;
        }
        if line.is_empty() {
            return Err(Error::Failed { what: self.name.clone(), status: self.child.wait()? });
        }
        Ok(line.trim().to_owned())
    }

    /// The next line that it says, which is a report.
    pub(crate) fn report(&mut self) -> Result<Value, Error> {
        report(&self.line()?)
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn start_error(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: name(command), source }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_ends_with_its_guard() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut server = Server::start(command, &directory.path().join("log")).unwrap();
        assert!(server.ended().unwrap().is_none());
        let pid = server.pid();
        drop(server);
        assert!(kill_process(pid, Signal::CONT).is_err(), "it is gone and waited for");
    }

    #[test]
    fn a_server_is_ended_well_or_named() {
        let directory = tempfile::tempdir().unwrap();
        let start = |script: &str| {
            let mut command = Command::new("sh");
            // What it says is how it is known that it traps.
            command.args(["-c", &format!("trap '{script}' TERM; echo up; while :; do sleep 0.01; done")]);
            let mut server = Server::start(command, &directory.path().join("log")).unwrap();
            let up = || std::fs::read(directory.path().join("log")).is_ok_and(|text| text == b"up\n");
            server.await_ready("it", &"there", Duration::from_secs(60), up).unwrap();
            server
        };
        assert!(start("exit 0").end("it").is_ok());
        let ended = start("exit 3").end("it");
        assert!(
            matches!(ended, Err(Error::BadEnd { name, status, .. }) if name == "it" && status.code() == Some(3))
        );
    }

    #[test]
    fn a_server_that_is_not_ready_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut sleeper = Command::new("sleep");
        sleeper.arg("60");
        let mut server = Server::start(sleeper, &log).unwrap();
        assert!(server.await_ready("it", &"there", Duration::from_secs(1), || true).is_ok());
        let late = server.await_ready("it", &"there", Duration::ZERO, || false);
        assert!(
            matches!(late, Err(Error::NotReady { name, address, .. }) if name == "it" && address == "there")
        );
        let mut server = Server::start(Command::new("false"), &log).unwrap();
        let ended = server.await_ready("it", &"there", Duration::from_secs(60), || false);
        assert!(matches!(ended, Err(Error::Ended { name, .. }) if name == "it"));
    }

    #[test]
    fn a_failure_is_named() {
        assert!(
            matches!(run(Command::new("false"), "this"), Err(Error::Failed { what, .. }) if what == "this")
        );
        assert!(matches!(run(Command::new("/no/such/program"), "this"), Err(Error::Start { .. })));
        assert!(find("sh").is_some() && find("no-such-program").is_none());
    }
}
