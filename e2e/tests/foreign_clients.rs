//! Clients that know nothing of us: openssl, gnutls, h2load, wrk.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Stdio};

use hsm_e2e::{Stack, run, tool};

#[test]
fn openssl_accepts_both_versions_and_every_group_that_it_knows() {
    let Some(openssl) = tool::find("openssl") else { return };
    let stack = Stack::start();
    let address = stack.address().to_string();
    for (version, group) in [
        ("-tls1_3", "X25519"),
        ("-tls1_3", "P-256"),
        ("-tls1_3", "P-384"),
        ("-tls1_2", "X25519:P-256"),
        ("-tls1_2", "P-384:P-256"),
    ] {
        let session = run(Command::new(&openssl)
            .args(["s_client", "-connect", &address, "-servername", "localhost", version, "-groups", group])
            .args(["-verify_return_error", "-verify_hostname", "localhost", "-CAfile"])
            .arg(stack.ca()));
        assert_eq!(session.code, Some(0), "{version} {group}: {}", session.stderr);
        assert!(
            session.stdout.contains("Verify return code: 0 (ok)"),
            "{version} {group}: {}",
            session.stdout
        );
    }
    for refused in ["-tls1_1", "-tls1"] {
        let session = run(Command::new(&openssl)
            .args(["s_client", "-connect", &address, "-servername", "localhost", refused])
            .args(["-cipher", "ALL:@SECLEVEL=0"]));
        assert_ne!(session.code, Some(0), "{refused} is not offered");
    }
}

#[test]
fn an_unknown_name_is_refused_by_its_alert() {
    let Some(openssl) = tool::find("openssl") else { return };
    let stack = Stack::start();
    let session = run(Command::new(&openssl).args([
        "s_client",
        "-connect",
        &stack.address().to_string(),
        "-servername",
        "other.example",
    ]));
    assert!(session.stderr.contains("unrecognized name"), "{}", session.stderr);
}

#[test]
fn openssl_resumes_a_session() {
    let Some(openssl) = tool::find("openssl") else { return };
    let stack = Stack::start();
    let directory = tempfile::tempdir().unwrap();
    let ticket = directory.path().join("session");
    let connect = |arguments: &[&str]| {
        let mut command = Command::new(&openssl);
        command
            .args([
                "s_client",
                "-connect",
                &stack.address().to_string(),
                "-servername",
                "localhost",
                "-tls1_2",
            ])
            .args(arguments)
            .arg(&ticket)
            .stdin(Stdio::null());
        run(&mut command).success()
    };
    assert!(connect(&["-sess_out"]).contains("New, TLSv1.2"));
    assert!(connect(&["-sess_in"]).contains("Reused, TLSv1.2"));
}

#[test]
fn h2load_and_wrk_finish_without_an_error() {
    let Some([h2load, wrk]) = tool::find_all(["h2load", "wrk"]) else { return };
    let stack = Stack::start();
    let report =
        run(Command::new(h2load).args(["-n", "2000", "-c", "8", "-m", "16"]).arg(stack.url("/"))).success();
    assert!(report.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
    let report =
        run(Command::new(wrk).args(["-t", "1", "-c", "16", "-d", "2s"]).arg(stack.url("/"))).success();
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
}
