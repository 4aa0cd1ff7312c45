//! Processes come and go together.

use rustix::process::Signal;

use crate::fixture::{Daemon, await_gone, send_signal};

fn replicas(daemon: &Daemon) -> [u32; 2] {
    [0, 1].map(|index| daemon.replica_pid(index).unwrap())
}

fn assert_tidy(daemon: &Daemon) {
    for name in ["engine-0.sock", "engine-0.pid", "engine-1.sock", "engine-1.pid", "supervisor.pid"] {
        assert!(!daemon.site().path("run").join(name).exists(), "{name} is left");
    }
}

#[test]
fn the_end_of_standard_input_ends_everything() {
    let mut daemon = Daemon::start("");
    let pids = replicas(&daemon);
    for index in [0, 1] {
        daemon.connect(index).greet().ping();
    }
    daemon.let_go();
    assert_eq!(daemon.await_end().code(), Some(0));
    pids.into_iter().for_each(await_gone);
    assert_tidy(&daemon);
}

#[test]
fn signals_end_everything() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut daemon = Daemon::start("");
        let pids = replicas(&daemon);
        let idle = daemon.connect(0).greet();
        send_signal(daemon.pid(), signal);
        assert_eq!(daemon.await_end().code(), Some(0));
        pids.into_iter().for_each(await_gone);
        assert_tidy(&daemon);
        assert!(idle.gets_shown_the_door());
    }
}

#[test]
fn a_killed_replica_comes_back_while_the_other_serves() {
    let daemon = Daemon::start("");
    let mut other = daemon.connect(1).greet();
    let mut pid = daemon.replica_pid(0).unwrap();
    for _ in 0..3 {
        send_signal(pid, Signal::KILL);
        other.ping();
        pid = daemon.await_replica(0, Some(pid));
    }
    daemon.await_log("signal 9 (SIGKILL)");
    daemon.connect(0).greet().ping();
    other.ping();
}

#[test]
fn a_replica_that_comes_back_lets_the_other_go_first_until_it_serves() {
    let gives_way = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        line.split(|&byte| byte == 0).any(|argument| argument == b"--give-way")
    };
    // That of the main thread, which is the event loop.
    let priority = |pid: u32| {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed());
        rustix::process::getpriority_process(pid).unwrap()
    };
    let daemon = Daemon::start("");
    let [first, other] = replicas(&daemon);
    assert!(!gives_way(first) && !gives_way(other), "at the start nobody serves");
    send_signal(first, Signal::KILL);
    let next = daemon.await_replica(0, Some(first));
    assert!(gives_way(next));
    assert_eq!(priority(next), priority(other), "and no longer");
}

#[test]
fn a_replica_that_ends_by_itself_comes_back_too() {
    let daemon = Daemon::start("replicas = 1");
    let pid = daemon.replica_pid(0).unwrap();
    send_signal(pid, Signal::TERM);
    daemon.await_replica(0, Some(pid));
    daemon.await_log("exit status 0");
}

#[test]
fn no_replica_outlives_a_killed_supervisor_not_even_a_stopped_one() {
    let mut daemon = Daemon::start("");
    let pids = replicas(&daemon);
    send_signal(pids[1], Signal::STOP);
    send_signal(daemon.pid(), Signal::KILL);
    assert!(!daemon.await_end().success());
    pids.into_iter().for_each(await_gone);
}

#[test]
fn a_new_supervisor_takes_over_from_a_killed_one() {
    let mut daemon = Daemon::start("");
    let before = replicas(&daemon);
    send_signal(daemon.pid(), Signal::KILL);
    daemon.await_end();
    daemon.restart();
    for index in [0, 1] {
        daemon.await_replica(index, Some(before[usize::from(index)]));
        daemon.connect(index).greet().ping();
    }
}
