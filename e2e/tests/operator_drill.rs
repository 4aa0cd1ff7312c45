//! `hsm-proxy drill`: the operator kills or freezes an engine of a proxy that serves, and is told what clients saw.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hsm_e2e::{Program, Stack, binary, front, run, wait};
use rustix::process::Signal;
use serde_json::Value;

/// A configuration that names the engines, the address and the admin listener of what runs already.
fn configuration(stack: &Stack, directory: &Path) -> PathBuf {
    let status = stack.greeting.lines().find_map(|line| line.trim().strip_prefix("status "));
    let admin = status.and_then(|line| line.trim().strip_prefix("http://")?.split('/').next()).unwrap();
    let certificate = stack.state_dir().join("localhost.pem");
    let text = front::configuration(stack, &certificate, stack.address(), "http://127.0.0.1:1");
    let file = directory.join("proxy.toml");
    std::fs::write(&file, text.replace("[proxy]\n", &format!("[proxy]\nadmin-listen = \"{admin}\"\n")))
        .unwrap();
    file
}

fn drill(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("hsm-proxy"));
    // A debug build on a busy machine: the bound is on what a dead engine could cost, which is for ever.
    command.arg("drill").arg("--config").arg(file).args([
        "--around",
        "1s",
        "--rate",
        "20",
        "--max-latency",
        "8s",
    ]);
    command.args(arguments);
    command
}

fn report(file: &Path, arguments: &[&str]) -> Value {
    let report = run(drill(file, &["--yes", "--json"]).args(arguments)).json();
    assert_eq!(report["passed"], true, "{report:#}");
    for phase in ["before", "during", "after"] {
        let phase = &report[phase];
        let handshakes = phase["handshakes"].as_u64().unwrap();
        assert!(handshakes >= 10 && phase["failed"] == 0, "{report:#}");
        let signed: u64 = phase["signed-by"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert!(signed >= handshakes, "{report:#}");
        assert!(phase["p50-ms"].as_f64() > Some(0.0) && phase["p99-ms"].as_f64() >= phase["p50-ms"].as_f64());
    }
    report
}

fn state_of(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().chars().next().unwrap()
}

#[test]
fn an_engine_that_is_killed_or_frozen_is_noticed_by_nobody_but_the_operator() {
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let file = configuration(&stack, directory.path());
    let (killed, frozen) = (stack.engine_pid(0), stack.engine_pid(1));
    let told = report(&file, &["--kill", "0", "--for", "2s"]);
    let engine = &told["engine"];
    assert_eq!((&engine["action"], &engine["pid"]), (&"kill".into(), &killed.into()), "{told:#}");
    assert_eq!(engine["back-pid"].as_i64(), Some(i64::from(stack.engine_pid(0))), "{told:#}");
    assert_ne!(stack.engine_pid(0), killed);

    let told = report(&file, &["--freeze", "1", "--for", "2s"]);
    let engine = &told["engine"];
    assert_eq!((&engine["action"], &engine["pid"]), (&"freeze".into(), &frozen.into()), "{told:#}");
    assert!(engine["frozen-ms"].as_f64() >= Some(1900.0), "{told:#}");
    assert_ne!(state_of(frozen), 'T');

    let words = run(&mut drill(&file, &["--yes", "--freeze", "1", "--for", "500ms"])).success();
    for expected in
        ["was frozen for", "signed by", "before", "during", "after", "engine-1 ", "passed: no client noticed"]
    {
        assert!(words.contains(expected), "{expected}: {words}");
    }
}

#[test]
fn an_engine_that_is_frozen_goes_on_when_the_drill_is_broken_off() {
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let file = configuration(&stack, directory.path());
    let engine = stack.engine_pid(0);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut program = Program::start(&mut drill(&file, &["--yes", "--freeze", "0", "--for", "10min"]));
        wait::until("the engine stands still", Duration::from_secs(20), || {
            (state_of(engine) == 'T').then_some(())
        });
        program.signal(signal);
        assert_eq!(program.wait(Duration::from_secs(60)), Some(1), "it did not pass");
        assert_ne!(state_of(engine), 'T', "{signal:?}");
    }
}

#[test]
fn nothing_is_done_without_a_yes_or_to_an_engine_that_is_none() {
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let file = configuration(&stack, directory.path());
    let engines = [stack.engine_pid(0), stack.engine_pid(1)];
    for (arguments, code, expected) in [
        (&["--kill", "0"][..], 64, "--yes makes the drill without a question"),
        (&["--yes", "--kill", "2"], 64, "there is no engine 2"),
        (
            &["--yes", "--kill", "0", "--site", "other.example"],
            64,
            "no [[site]] of the configuration is for other.example",
        ),
        (&["--yes"], 64, "--kill"),
    ] {
        let refused = run(&mut drill(&file, arguments));
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
    assert_eq!(engines, [stack.engine_pid(0), stack.engine_pid(1)]);
}
