//! What a running replica can't do any more.

use std::fs;

use keycore_wire::{ActivateCluster, ClusterInfo, InitializeCluster, Secret};
use rustix::process::Signal;

use crate::fixture::{Daemon, send_signal};

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

#[test]
fn a_confined_replica_serves() {
    let daemon = Daemon::start("replicas = 1\nsandbox = 'required'");
    let mut peer = daemon.connect(0).greet();
    peer.call(&InitializeCluster).unwrap();
    let (admin, password) = ("admin".parse().unwrap(), Secret::new(b"a password of a test".to_vec()));
    peer.call(&ActivateCluster { admin, password }).unwrap();

    let pid = daemon.replica_pid(0).unwrap();
    assert_eq!((&*status(pid, "Seccomp"), &*status(pid, "NoNewPrivs")), ("2", "1"));
    // Each filter that was applied once; none of them was applied before.
    assert_eq!(status(pid, "Seccomp_filters"), "3");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().filter(|word| *word == "0").count() >= 2, "{core}");
    // Of every thread, and not only of the first one.
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread: u32 = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert_eq!(status(thread, "Seccomp"), "2", "thread {thread}");
    }
    assert_eq!(peer.call(&ClusterInfo).unwrap().users, 1);
}

#[test]
fn a_crash_leaves_no_core_dump() {
    let daemon = Daemon::start("replicas = 1\nsandbox = 'required'");
    let pid = daemon.await_replica(0, None);
    let before = fs::read_dir(std::env::current_dir().unwrap()).unwrap().count();
    send_signal(pid, Signal::ABORT);
    daemon.await_replica(0, Some(pid));
    let log = daemon.site().log();
    assert!(log.contains("signal 6 (SIGABRT)") && !log.contains("core dumped"), "{log}");
    assert_eq!(fs::read_dir(std::env::current_dir().unwrap()).unwrap().count(), before);
    let found = [daemon.site().path("state"), daemon.site().path("")].map(|directory| {
        fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("core"))
    });
    assert_eq!(found, [false, false]);
}

#[test]
fn without_a_sandbox_the_log_says_so() {
    let daemon = Daemon::start("replicas = 1\nsandbox = 'off'");
    let pid = daemon.await_replica(0, None);
    assert_eq!(status(pid, "Seccomp_filters"), "0");
    daemon.await_log("this engine is not confined");
}
