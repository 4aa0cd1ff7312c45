use std::path::Path;
use std::process::Child;

use super::*;
use crate::drill::tests::{FakeEngine, spawn};

fn state_of(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().chars().next().unwrap()
}

fn write_pid(state_dir: &Path, text: &str) {
    std::fs::create_dir_all(state_dir.join("run")).unwrap();
    std::fs::write(state_dir.join("run/engine-0.pid"), text).unwrap();
}

fn pid(child: &Child) -> String {
    format!("{}\n", child.id())
}

#[test]
fn only_an_engine_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let replica = Replica::new(directory.path(), 0);
    assert!(matches!(replica.process(), Err(ReplicaError::PidFile { .. })));
    for garbage in ["", "x", "-5", "0", "1", "99999999999"] {
        write_pid(directory.path(), garbage);
        assert!(matches!(replica.process(), Err(ReplicaError::NoPid { .. })), "{garbage}");
    }
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    write_pid(directory.path(), &pid(&other));
    let refused = replica.process();
    assert!(
        matches!(&refused, Err(ReplicaError::NotAnEngine { name, .. }) if name == "sleep"),
        "{refused:?}"
    );
    other.kill().unwrap();
    // A zombie is no engine, and neither is what is gone altogether.
    assert!(other.try_wait().is_ok());
    other.wait().unwrap();
    assert!(matches!(replica.process(), Err(ReplicaError::Gone { .. })));
    let mut engine = spawn(directory.path());
    write_pid(directory.path(), &pid(&engine));
    assert_eq!(replica.process().unwrap().pid(), i32::try_from(engine.id()).unwrap());
    engine.kill().unwrap();
    engine.wait().unwrap();
}

#[test]
fn a_frozen_engine_continues_whatever_happens() {
    let engine = FakeEngine::start();
    let process = engine.replica().process().unwrap();
    let pid = process.pid();
    let frozen = process.freeze().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while state_of(pid) != 'T' {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    drop(frozen);
    while state_of(pid) == 'T' {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_replica_is_back_when_another_process_accepts() {
    let engine = FakeEngine::start();
    let replica = engine.replica();
    let pid = replica.process().unwrap().pid();
    let soon = || Instant::now() + Duration::from_millis(30);
    assert_eq!(replica.back(pid, soon()).await, None, "it is still the old one");
    assert_eq!(replica.back(pid + 1, soon()).await, Some(pid));
    std::fs::remove_file(engine.socket()).unwrap();
    assert_eq!(replica.back(pid + 1, soon()).await, None, "its socket is not there");
}

#[test]
fn who_listens_at_a_socket_is_an_engine_or_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("engine-0.sock");
    let replica = Replica::listening_at(&socket, 0);
    let nobody = replica.process();
    assert!(matches!(nobody, Err(ReplicaError::Socket { .. })), "{nobody:?}");
    // This test listens, and is no engine.
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refused = replica.process();
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(&refused, Err(ReplicaError::OtherListens { pid, .. }) if *pid == own), "{refused:?}");
}
