//! `hsm audit tail --follow` as a process: what is written while it runs, and Ctrl-C.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use keycore_audit::{Entry, Log, Subject, file};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn following_shows_what_comes_and_ends_with_ctrl_c() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, sink, _) = file::open(dir.path(), 0).unwrap();
    let mut log = Log::new(chain, Box::new(sink));
    let mut write = |operation: &str| {
        log.append(&Entry::by_engine(1_795_000_000_000_000, operation, Subject::None, "")).unwrap();
        log.flush().unwrap();
    };
    ["First", "Second", "Other", "Third"].into_iter().for_each(&mut write);
    let mut tail = Command::new(env!("CARGO_BIN_EXE_hsm"))
        .args(["audit", "tail", "--follow", "-n", "2", "--output", "json"])
        .args(["--operation", "First", "--operation", "Second", "--operation", "Third", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        (record["operation"].as_str().unwrap().to_owned(), record["sequence"].as_u64().unwrap())
    };
    assert_eq!([next(), next()], [("Second".to_owned(), 2), ("Third".to_owned(), 4)]);
    ["Other", "First"].into_iter().for_each(&mut write);
    assert_eq!(next(), ("First".to_owned(), 6));
    kill_process(Pid::from_child(&tail), Signal::INT).unwrap();
    assert!(lines.next().is_none(), "nothing but records");
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}
