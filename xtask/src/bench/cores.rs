//! One core for the server, another for the client, and the CPU time of a tree of processes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::Error;

/// The first two cores that we may use.
pub(crate) struct Cores {
    all: CpuSet,
    server: usize,
    client: usize,
}

impl Cores {
    pub(crate) fn choose() -> Result<Self, Error> {
        let all = sched_getaffinity(None).map_err(|error| Error::Cores(error.to_string()))?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        match (usable.next(), usable.next()) {
            (Some(server), Some(client)) => Ok(Self { all, server, client }),
            _ => Err(Error::Cores("this process may use only one".to_owned())),
        }
    }

    /// Runs `start` so that the processes which it starts stay on the server's core.
    pub(crate) fn on_server<T>(&self, start: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.on(self.server, start)
    }

    /// The same on the client's core.
    pub(crate) fn on_client<T>(&self, start: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.on(self.client, start)
    }

    /// Moves all threads that a process has to the client's core.
    pub(crate) fn move_to_client(&self, process: Pid) -> Result<(), Error> {
        let mut one = CpuSet::new();
        one.set(self.client);
        let tasks = format!("/proc/{}/task", process.as_raw_pid());
        for entry in fs::read_dir(&tasks).map_err(Error::file(Path::new(&tasks)))?.flatten() {
            // `None` would be this thread.
            let Some(thread) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?))
            else {
                continue;
            };
            sched_setaffinity(Some(thread), &one).map_err(|error| Error::Cores(error.to_string()))?;
        }
        Ok(())
    }

    /// Children inherit the affinity of the thread that starts them.
    fn on<T>(&self, core: usize, start: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut one = CpuSet::new();
        one.set(core);
        sched_setaffinity(None, &one).map_err(|error| Error::Cores(error.to_string()))?;
        let result = start();
        sched_setaffinity(None, &self.all).map_err(|error| Error::Cores(error.to_string()))?;
        result
    }
}

/// CPU time, user and system, of a process and all its descendants so far, to the nanosecond. Threads that have ended
/// are left out, so only differences over a time without such mean something: servers keep their threads.
pub(crate) fn cpu_time(root: Pid) -> Result<Duration, Error> {
    let mut total = Duration::ZERO;
    for pid in tree(root.as_raw_pid())? {
        let tasks = format!("/proc/{pid}/task");
        // A process that ended between the listing and now had its end.
        let Ok(entries) = fs::read_dir(&tasks) else { continue };
        for task in entries.flatten() {
            total += run_time(&task.path()).unwrap_or_default();
        }
    }
    Ok(total)
}

/// Resident memory of a process and all its descendants.
pub(crate) fn resident_kib_of_all(root: Pid) -> Result<u64, Error> {
    let processes = tree(root.as_raw_pid())?.into_iter().filter_map(Pid::from_raw);
    processes.map(super::scale::resident_kib).sum()
}

/// How many processes and threads a server has, for the report.
pub(crate) fn census(root: Pid) -> Result<(usize, usize), Error> {
    let processes = tree(root.as_raw_pid())?;
    let threads = processes
        .iter()
        .filter_map(|pid| Some(fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().count()))
        .sum();
    Ok((processes.len(), threads))
}

/// First field of `schedstat`: nanoseconds on a CPU.
fn run_time(task: &Path) -> Option<Duration> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn tree(root: i32) -> Result<Vec<i32>, Error> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").map_err(Error::file("/proc"))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses included.
    stat.rsplit(')').next()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether the kernel keeps the account that [`cpu_time`] reads.
pub(crate) fn check_accounting() -> Result<(), Error> {
    let own = run_time(Path::new("/proc/self/task").join(std::process::id().to_string()).as_path());
    match own {
        Some(time) if time > Duration::ZERO => Ok(()),
        _ => Err(Error::Cores("this kernel keeps no schedstat, so CPU time is unknown".to_owned())),
    }
}

/// A command's version line: what is measured is named exactly.
pub(crate) fn version_of(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else { return "unknown".to_owned() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_count_with_their_parent() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let shell = Pid::from_child(&child);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while census(shell).unwrap() != (2, 2) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(2));
        }
        let own = tree(i32::try_from(std::process::id()).unwrap()).unwrap();
        let family = tree(shell.as_raw_pid()).unwrap();
        assert!(family.iter().all(|pid| own.contains(pid)));
        for pid in family.into_iter().rev() {
            rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
                .unwrap();
        }
        child.wait().unwrap();
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        let before = cpu_time(own).unwrap();
        let mut sum = 0_u64;
        while cpu_time(own).unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        check_accounting().unwrap();
    }
}
