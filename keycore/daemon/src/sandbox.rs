//! What a replica gives up for good before it serves: everything that holding keys and answering a socket does not take.
//!
//! | means | when | what stays allowed |
//! |---|---|---|
//! | landlock | before the first thread and the first secret | files below the directories of the configuration; no TCP but to listen at the port of `listen-tcp`, no signals and no abstract sockets to other processes |
//! | seccomp | when everything is open, before `ready` | the system calls in [`syscalls`]; no new sockets, no connections, no programs, no other processes' memory |
//!
//! Whoever makes the engine run his code by some bug can so still use the keys that are in memory, but take them nowhere: there is
//! no network, no program to start, no file outside of the engine's own. The supervisor is not confined: it holds no key, and
//! has to start programs.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Config;
use crate::exit::StartError;

mod files;
mod syscalls;

/// How a replica confines itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Landlock and seccomp, or the replica does not start.
    Required,
    /// What the kernel has; what it lacks is logged as an error.
    BestEffort,
    /// Nothing: for debugging.
    Off,
}

/// What a replica needs of the file system, by its configuration.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    /// Directories below which everything is allowed but to run a program.
    write: Vec<PathBuf>,
    /// Files and directories that are read.
    read: Vec<PathBuf>,
    /// The port that is listened on.
    port: Option<u16>,
}

impl Needs {
    fn of(config: &Config, index: u16) -> Self {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let read = [config.unseal_file.clone(), credentials, Some("/dev/urandom".into())];
        Self {
            write: [&config.state_dir, &config.socket_dir]
                .into_iter()
                .chain(&config.backup.directory)
                .cloned()
                .collect(),
            read: read.into_iter().flatten().collect(),
            port: config.tcp_address(index).map(|address| address.port()),
        }
    }
}

/// Confines what files this thread, and every one that it starts from now on, can reach. To be called before any other
/// thread is started, when the directories are there.
///
/// # Errors
///
/// If the sandbox is required and the kernel has no landlock.
pub(crate) fn confine_files(config: &Config, index: u16) -> Result<(), StartError> {
    match config.sandbox {
        Sandbox::Off => {
            tracing::warn!("sandbox = \"off\": this engine is not confined");
            Ok(())
        }
        level => judge(level, "landlock", files::confine(&Needs::of(config, index))),
    }
}

/// Confines what this process, all of its threads, can ask of the kernel. To be called when everything is open.
///
/// # Errors
///
/// If the sandbox is required and the kernel has no seccomp.
pub(crate) fn confine_system_calls(config: &Config) -> Result<(), StartError> {
    match config.sandbox {
        Sandbox::Off => Ok(()),
        level => judge(level, "seccomp", syscalls::confine()),
    }
}

fn judge(level: Sandbox, means: &'static str, outcome: Result<(), Gap>) -> Result<(), StartError> {
    match (outcome, level) {
        (Ok(()), _) => Ok(()),
        (Err(gap), Sandbox::Required) => Err(StartError::Sandbox { means, gap }),
        (Err(gap), _) => {
            tracing::error!("this engine is less confined than it should be: {means}: {gap}");
            Ok(())
        }
    }
}

/// A confinement that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Gap {
    #[error("the kernel does not have it, or only a part")]
    Unsupported,
    #[error("it is on, and {0} is still possible")]
    Leaky(&'static str),
    #[error(transparent)]
    Landlock(#[from] landlock::RulesetError),
    #[error(transparent)]
    Seccomp(#[from] seccompiler::Error),
    #[error(transparent)]
    Filter(#[from] seccompiler::BackendError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether a file that no configuration names can still be read: the proof that a confinement holds.
fn can_read(path: &Path) -> bool {
    std::fs::File::open(path).is_ok()
}

#[cfg(test)]
mod tests;
