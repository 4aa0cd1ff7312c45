//! Clients that know nothing of us: openssl, gnutls, h2load, wrk.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use hsm_e2e::{Program, Stack, run, tool};

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
fn gnutls_trusts_the_chain_and_has_a_page_by_either_version() {
    let Some(gnutls) = tool::find("gnutls-cli") else { return };
    let stack = Stack::start();
    for (version, told) in [("+VERS-TLS1.3", "(TLS1.3"), ("+VERS-TLS1.2", "(TLS1.2")] {
        let mut client = Command::new("timeout");
        client.arg("60").arg(&gnutls).arg("--x509cafile").arg(stack.ca());
        client.args(["--priority", &format!("NORMAL:-VERS-ALL:{version}")]);
        client.args(["--port", &stack.address().port().to_string(), "localhost"]);
        let mut client = Program::start(client.stdin(Stdio::piped()).stdout(Stdio::piped()));
        // Its input stays open: its end would be the connection's.
        let mut input = client.child().stdin.take().unwrap();
        input.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut said = String::new();
        client.child().stdout.take().unwrap().read_to_string(&mut said).unwrap();
        for expected in ["The certificate is trusted", told, "HTTP/1.1 200 OK", "no private key"] {
            assert!(said.contains(expected), "{version}: no {expected}: {said}");
        }
    }
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
