//! A replica of the engine, by what it has in its directory of sockets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Its socket.
pub(crate) fn socket(run: &Path, replica: u16) -> PathBuf {
    run.join(format!("engine-{replica}.sock"))
}

/// Its process id, once there is one. Its socket and its port listen then: it writes the file after it has bound them.
///
/// # Panics
///
/// If it doesn't run in time.
#[track_caller]
pub(crate) fn pid(run: &Path, replica: u16) -> i32 {
    let file = run.join(format!("engine-{replica}.pid"));
    wait::until("the engine's pid file names a running process", Duration::from_secs(30), || {
        let pid = std::fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        wait::is_running(pid).then_some(pid)
    })
}

/// Signals it; its process id.
///
/// # Panics
///
/// If it doesn't run.
#[track_caller]
pub(crate) fn signal(run: &Path, replica: u16, signal: Signal) -> i32 {
    let pid = pid(run, replica);
    kill_process(Pid::from_raw(pid).expect("a process id"), signal)
        .expect("an engine that this test started");
    pid
}
