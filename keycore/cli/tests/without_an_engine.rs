//! What `hsm` says and exits with where no engine is; with engines it is tested in `e2e/`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

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
