//! The main job: one command, and foreign clients speak TLS to keys that only the engines hold.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;
use std::time::Duration;

use hsm_e2e::{Stack, StackOptions, binary, run, tool, wait};
use rustix::process::Signal;

#[test]
fn curl_is_served_over_both_protocols_and_both_tls_versions() {
    let Some(curl) = tool::find("curl") else { return };
    let stack = Stack::start();
    for (arguments, version) in [
        (["--http1.1", "--tlsv1.3"], "1.1"),
        (["--http2", "--tlsv1.3"], "2"),
        (["--http1.1", "--tls-max=1.2"], "1.1"),
    ] {
        let mut command = stack.curl(&curl);
        // curl takes the value of --tls-max as an argument of its own.
        command.args(arguments.iter().flat_map(|argument| argument.split('=')));
        let body =
            run(command.args(["--write-out", "\nversion=%{http_version}\n"]).arg(stack.url("/"))).success();
        assert!(body.contains(&format!("version={version}")), "{arguments:?}: {body}");
        let signer = body.lines().find(|line| line.starts_with("handshake signed by")).unwrap_or_default();
        assert!(
            signer.ends_with("engine 0") || signer.ends_with("engine 1"),
            "the page says who signed: {body}"
        );
    }
}

#[test]
fn later_runs_reuse_the_cluster_and_the_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        || StackOptions { state_dir: Some(directory.path().join("state")), ..StackOptions::default() };
    let mut first = Stack::start_with(options());
    let files = ["ca.pem", "localhost.pem"].map(|name| std::fs::read(first.state_dir().join(name)).unwrap());
    first.proxy().signal(Signal::TERM);
    assert_eq!(first.proxy().wait(Duration::from_secs(20)), Some(0));
    drop(first);
    let second = Stack::start_with(options());
    let again = ["ca.pem", "localhost.pem"].map(|name| std::fs::read(second.state_dir().join(name)).unwrap());
    assert!(files == again, "certificates were made anew");
    let load = run(Command::new(binary("hsm-loadtest"))
        .args([
            "handshakes",
            "--count",
            "20",
            "--concurrency",
            "4",
            "--connect",
            &second.address().to_string(),
        ])
        .arg("--ca")
        .arg(second.ca()));
    load.success();
}

#[test]
fn sigterm_leaves_no_process() {
    let mut stack = Stack::start();
    let engines = [stack.engine_pid(0), stack.engine_pid(1)];
    let supervisor: i32 = std::fs::read_to_string(stack.state_dir().join("run/supervisor.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    stack.proxy().signal(Signal::TERM);
    assert_eq!(stack.proxy().wait(Duration::from_secs(20)), Some(0), "a clean end");
    for pid in engines.into_iter().chain([supervisor]) {
        assert!(!wait::is_running(pid), "process {pid} was left behind");
    }
}

#[test]
fn engines_end_when_the_proxy_is_killed() {
    let mut stack = Stack::start();
    let engines = [stack.engine_pid(0), stack.engine_pid(1)];
    stack.proxy().signal(Signal::KILL);
    stack.proxy().wait(Duration::from_secs(5));
    wait::until("the engines end", Duration::from_secs(10), || {
        engines.into_iter().all(|pid| !wait::is_running(pid)).then_some(())
    });
}

#[test]
fn the_contract_for_scripts_holds() {
    let stack = Stack::start();
    let pid = |name: &str| -> i32 {
        std::fs::read_to_string(stack.state_dir().join("run").join(name)).unwrap().trim().parse().unwrap()
    };
    assert_eq!(pid("proxy.pid"), stack.proxy_pid());
    for replica in [0, 1] {
        assert!(wait::is_running(pid(&format!("engine-{replica}.pid"))));
        assert!(stack.engine_socket(replica).exists());
    }
    assert!(stack.greeting.lines().last().unwrap().starts_with("ready"));
    assert!(stack.greeting.contains("--cacert"), "{}", stack.greeting);
    assert!(stack.greeting.contains("kill -9"), "{}", stack.greeting);
}

#[test]
fn a_second_dev_in_the_same_directory_is_refused() {
    let stack = Stack::start();
    let second = run(Command::new(binary("hsm-proxy"))
        .args(["dev", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(stack.state_dir()));
    assert_ne!(second.code, Some(0));
    assert!(second.stderr.contains(&stack.proxy_pid().to_string()), "says which one runs: {}", second.stderr);
}
