//! What `hsm` says and exits with where no engine is; with engines it is tested in `e2e/`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use keycore_wire::{ClusterState, Done, HelloReply, Limits, Reply, Request, frame};

struct Hsm {
    directory: tempfile::TempDir,
}

impl Hsm {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hsm"))
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("XDG_RUNTIME_DIR", self.path())
            .env("HSM_ENGINES", self.path().join("engine-0.sock"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn no_engine_is_told_with_its_socket_and_what_to_do() {
    let hsm = Hsm::new();
    for command in [&["cluster", "info"][..], &["key", "list"], &["login", "--user", "a"]] {
        let output = hsm.run(command);
        assert_eq!(output.status.code(), Some(69), "{command:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("engine-0.sock"), "{}", stderr(&output));
        assert!(stderr(&output).contains("is hsm-engine running"), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn programs_get_one_object_on_standard_output() {
    let hsm = Hsm::new();
    let output = hsm.run(&["--output", "json", "cluster", "info"]);
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(json(&output)["error_code"], 69);
    assert!(json(&output)["advice"].is_string());
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn a_bad_key_file_is_found_before_any_engine_is_asked() {
    let hsm = Hsm::new();
    std::fs::write(
        hsm.path().join("key.pem"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let output = hsm.run(&["--user", "web", "key", "import", "--label", "x", "--file", "key.pem"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("openssl pkcs8 -topk8 -nocrypt -in key.pem"), "{}", stderr(&output));
    let output = hsm.run(&["--user", "web", "key", "import", "--label", "x", "--file", "none.pem"]);
    assert_eq!(output.status.code(), Some(66));
}

#[test]
fn what_exists_is_not_overwritten() {
    let hsm = Hsm::new();
    std::fs::write(hsm.path().join("ca.pem"), "precious").unwrap();
    let output =
        hsm.run(&["--user", "ca", "cert", "ca-init", "--key", "root", "--cn", "Root", "--out", "ca.pem"]);
    assert_eq!(output.status.code(), Some(73));
    assert!(stderr(&output).contains("--force"));
    assert_eq!(std::fs::read(hsm.path().join("ca.pem")).unwrap(), b"precious");
}

#[test]
fn wrong_arguments_exit_with_2_and_passwords_have_no_option() {
    let hsm = Hsm::new();
    for arguments in [&[][..], &["key"], &["key", "frobnicate"], &["--password", "secret", "login"]] {
        assert_eq!(hsm.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let help = String::from_utf8(hsm.run(&["--help"]).stdout).unwrap();
    assert!(!help.contains("completions"), "hidden: {help}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let hsm = Hsm::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = hsm.run(&["completions", shell]);
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
    }
    assert!(hsm.run(&["man", "man"]).status.success());
    assert!(hsm.path().join("man/hsm-cert-issue.1").exists());
}

#[test]
fn an_audit_log_that_is_not_there_is_bad_data() {
    let hsm = Hsm::new();
    let output = hsm.run(&["audit", "verify", "--dir", "none"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("none"), "{}", stderr(&output));
}

#[test]
fn a_secret_that_exists_is_never_replaced_and_nobody_is_told_that_it_could_be() {
    let hsm = Hsm::new();
    for arguments in [&["--out", "new"][..], &["--out", "new", "--shares", "2/3"]] {
        std::fs::write(hsm.path().join("new"), "precious").unwrap();
        std::fs::write(hsm.path().join("new-3.share"), "precious").unwrap();
        let output = hsm.run(&[&["backup", "keygen"], arguments].concat());
        assert_eq!(output.status.code(), Some(73));
        assert!(stderr(&output).contains("name another file"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("--force"), "{}", stderr(&output));
        assert!(!hsm.path().join("new-1.share").exists(), "a set is whole or not there");
    }
}

#[test]
fn a_request_does_not_replace_the_key_that_it_is_for() {
    let hsm = Hsm::new();
    for out in ["client.pem", "./client.pem"] {
        let request = ["cert", "client-request", "--cn", "proxy", "--key-out", "client.pem", "--out", out];
        let output = hsm.run(&request);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("are one file"), "{}", stderr(&output));
        assert!(!hsm.path().join("client.pem").exists());
    }
}

/// Serves a connection as an engine without a cluster, until it is asked to make one: then it is gone, and nobody knows
/// whether it did.
fn vanish_when_there_would_be_a_cluster(listener: &UnixListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    loop {
        let mut bytes = [0; 64 * 1024];
        let length = stream.read(&mut bytes).unwrap();
        if length == 0 {
            return;
        }
        received.extend_from_slice(&bytes[..length]);
        while let Some((frame, length)) = frame::split(&received, frame::MAX_FRAME).unwrap() {
            let limits = Limits { max_frame: 128 * 1024, max_in_flight: 9 };
            let state = ClusterState::Uninitialized;
            let reply = match Request::decode(frame.body).unwrap() {
                Request::Hello(hello) => Reply::Hello(HelloReply {
                    version: hello.max_version,
                    cluster: None,
                    state,
                    replica: 0,
                    limits,
                }),
                Request::BackupRestore(_) | Request::BackupChunk(_) => Reply::Done(Done),
                Request::InitializeBy(_) | Request::BackupEndBy(_) => return,
                other => panic!("asked for {}", other.name()),
            };
            let mut out = Vec::new();
            frame::append::<()>(&mut out, frame.id, |out| {
                Reply::encode(&Ok(reply), out);
                Ok(())
            })
            .unwrap();
            stream.write_all(&out).unwrap();
            received.drain(..length);
        }
    }
}

/// The shares are lost with the answer: whoever tried again would find a cluster that nobody can unseal.
#[test]
fn a_cluster_that_may_unseal_by_shares_which_nobody_has_is_told() {
    let hsm = Hsm::new();
    assert!(hsm.run(&["backup", "keygen", "--out", "identity"]).status.success());
    std::fs::write(hsm.path().join("backup"), "as good as any for this engine").unwrap();
    let restore = ["backup", "restore", "backup", "--identity", "identity", "--custodians", "2/3"];
    for command in [&["cluster", "init", "--custodians", "2/3"][..], &restore] {
        let socket = hsm.path().join("engine-0.sock");
        let _absent = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let output = std::thread::scope(|scope| {
            let engine = scope.spawn(move || {
                vanish_when_there_would_be_a_cluster(&listener);
                drop(listener);
            });
            let output = hsm.run(command);
            // If it never came, nobody waits for it.
            drop(UnixStream::connect(&socket));
            engine.join().unwrap();
            output
        });
        assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
        assert!(stderr(&output).contains("shares that nobody has"), "{}", stderr(&output));
    }
}
