//! What can stop a task.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a task could not be done; the message is for the contributor who asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{program} can't be started: {source}")]
    Start { program: String, source: io::Error },
    #[error("{what} failed ({status}); its messages are above")]
    Failed { what: String, status: ExitStatus },
    #[error("`cargo metadata` gave no {0}")]
    Metadata(&'static str),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0} is not installed, and this needs it (Debian: apt install {0})")]
    MissingTool(&'static str),
    #[error("{} is missing; it is in the component llvm-tools of the toolchain: rustup component add llvm-tools", .0.display())]
    MissingLlvmTool(PathBuf),
    #[error("hsm-proxy left no profile in {}; programs without one: cargo build --release", .0.display())]
    NoProfile(PathBuf),
    #[error("{name} did not serve on {address} within {limit:?}; its messages: {log}")]
    NotReady { name: String, address: String, limit: Duration, log: String },
    #[error("{name} ended before the measurement did ({status}); its messages: {log}")]
    Ended { name: String, status: ExitStatus, log: String },
    #[error("{name} did not end well when it was asked to ({status}); its messages: {log}")]
    BadEnd { name: String, status: ExitStatus, log: String },
    #[error("{name} did not end within {limit:?}; its messages: {log}")]
    NoEnd { name: String, limit: Duration, log: String },
    #[error("the benchmark needs two cores of its own, one for the server and one for the client: {0}")]
    Cores(String),
    #[error("in a round against {name} {failed} failed, so its figures mean nothing: {reasons}")]
    FailedRound { name: String, failed: f64, reasons: String },
    #[error("the client gave a report that can't be read: {0}")]
    LoadReport(String),
    #[error("more instructions than in {}: {regressions}. If that is meant: cargo xtask bench instructions --accept", baseline.display())]
    Regression { baseline: PathBuf, regressions: String },
    #[error("a scanner gave a report that can't be read: {0}")]
    ScanReport(String),
    #[error("{0} findings of medium severity or worse, see above")]
    Findings(usize),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("tests failed: {}", .0.join(", "))]
    Tests(Vec<String>),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.into(), source }
    }
}
