//! All engines are restarted, one after the other, while clients come with new connections all the time.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use hsm_e2e::{Program, Stack, run, tool, wait};
use rustix::process::Signal;

/// How long clients come.
const SECONDS: &str = "25";

fn metrics(stack: &Stack, curl: &std::path::Path) -> String {
    let status = stack.greeting.lines().find_map(|line| line.trim().strip_prefix("status "));
    let url = status.and_then(|line| line.split_whitespace().next()).unwrap();
    run(Command::new(curl).args(["--silent", "--noproxy", "*", &format!("{url}metrics")])).success()
}

/// What a line of the metrics counts.
fn counted(metrics: &str, what: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().parse().unwrap()
}

/// Whether all workers of the proxy ask this engine, by its metrics.
fn is_up(stack: &Stack, curl: &std::path::Path, replica: u16) -> bool {
    let metrics = metrics(stack, curl);
    let mut lines = metrics.lines().filter(|line| line.starts_with("hsm_proxy_engine_up"));
    lines.any(|line| line.contains(&format!("engine-{replica}.sock\"")) && line.ends_with(" 1"))
}

fn output(program: &mut Program) -> String {
    let mut said = String::new();
    program.child().stdout.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn engines_are_restarted_in_turn_under_load_and_no_request_fails() {
    let Some([h2load, wrk, curl]) = tool::find_all(["h2load", "wrk", "curl"]) else {
        return;
    };
    let stack = Stack::start();
    let url = stack.url("/");
    // Twenty new connections a second, each with a full handshake and five requests.
    let mut http2 = Program::start(
        Command::new(h2load)
            .args(["-n", "2500", "-c", "500", "-r", "20", "--rate-period=1s", &url])
            .stdout(Stdio::piped()),
    );
    // And one for each request.
    let mut http1 = Program::start(
        Command::new(wrk)
            .args(["-t", "1", "-c", "4", "-d", SECONDS, "--timeout", "20s", "-H", "Connection: close", &url])
            .stdout(Stdio::piped()),
    );
    for (replica, signal) in [(0, Signal::TERM), (1, Signal::TERM), (0, Signal::KILL), (1, Signal::KILL)] {
        let before = stack.signal_engine(replica, signal);
        wait::until("another process is in the engine's place", Duration::from_secs(20), || {
            (stack.engine_pid(replica) != before && is_up(&stack, &curl, replica)).then_some(())
        });
    }
    assert!(http2.child().try_wait().unwrap().is_none(), "the restarts were over before the load was");
    assert!(http1.child().try_wait().unwrap().is_none(), "the restarts were over before the load was");

    let said = output(&mut http2);
    assert!(
        said.contains(
            "requests: 2500 total, 2500 started, 2500 done, 2500 succeeded, 0 failed, 0 errored, 0 timeout"
        ),
        "{said}"
    );
    let said = output(&mut http1);
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    let requests =
        said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse::<u64>().ok());
    assert!(requests > Some(100), "{said}");

    // The time of all these signatures, in its parts.
    let metrics = metrics(&stack, &curl);
    let of = |what: &str, stage: &str| {
        counted(&metrics, &format!("hsm_proxy_signature_seconds_{what}{{stage=\"{stage}\"}}"))
    };
    let parts = ["socket", "engine-queue", "engine"];
    let answers = of("count", "answer");
    for stage in parts {
        assert!(answers > 500.0 && of("count", stage) >= 0.9 * answers, "{stage} of {answers}: {metrics}");
    }
    let (all, sum) = (of("sum", "answer"), parts.iter().map(|stage| of("sum", stage)).sum::<f64>());
    assert!(of("sum", "engine") > 0.0 && (0.5..=1.001).contains(&(sum / all)), "{sum} of {all}");
}
