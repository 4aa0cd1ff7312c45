//! Child processes that end with the test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait;

/// Path of one of the workspace's binaries.
///
/// `cargo xtask test` says where they are by `HSM_E2E_BIN_DIR`; otherwise they are looked for beside the test's own
/// executable, where `cargo build --workspace --bins` puts them.
///
/// # Panics
///
/// If it isn't there.
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("HSM_E2E_BIN_DIR").map_or_else(
        || {
            let test = std::env::current_exe().expect("the test's own path");
            test.parent().and_then(|deps| deps.parent()).expect("target directory").to_owned()
        },
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(path.exists(), "{} is missing: build it by `cargo build --workspace --bins`", path.display());
    path
}

/// What a program that ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// Exit code, if it was not killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output, after checking that it succeeded.
    ///
    /// # Panics
    ///
    /// If it did not exit with 0, with everything that it said.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// The same, read as JSON.
    ///
    /// # Panics
    ///
    /// If it did not exit with 0, or if that is no JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Runs a program to its end.
///
/// # Panics
///
/// If it can't be started.
pub fn run(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A process that the test started; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child }
    }

    /// The process itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process that this test started");
    }

    /// Waits until it ends; its exit code, if it was not killed.
    ///
    /// # Panics
    ///
    /// If it doesn't end in time.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        wait::until("the process ends", limit, || self.child.try_wait().expect("own child")).code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
