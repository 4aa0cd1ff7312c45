//! An OCSP response from a file, before `openssl s_client -status`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hsm_e2e::front::replace;
use hsm_e2e::{Front, Stack, Upstream, run, self_signed, tool, wait};

/// The response of a responder of the test's own for the stack's certificate: `status` is V or R, as in an authority's index.
fn respond(openssl: &Path, stack: &Stack, directory: &Path, status: &str) -> Vec<u8> {
    let (ca, certificate) = (stack.ca(), stack.state_dir().join("localhost.pem"));
    let serial =
        run(Command::new(openssl).args(["x509", "-noout", "-serial", "-in"]).arg(&certificate)).success();
    let serial = serial.trim().strip_prefix("serial=").unwrap();
    let revoked = if status == "R" { "260101000000Z" } else { "" };
    let line = format!("{status}\t491231235959Z\t{revoked}\t{serial}\tunknown\t/CN=localhost\n");
    std::fs::write(directory.join("index.txt"), line).unwrap();
    if !directory.join("responder.pem").exists() {
        self_signed(openssl, directory, "responder");
    }
    let mut ask = Command::new(openssl);
    ask.current_dir(directory).args(["ocsp", "-no_nonce", "-reqout", "request.der", "-issuer"]).arg(&ca);
    run(ask.arg("-cert").arg(&certificate)).success();
    let mut answer = Command::new(openssl);
    answer.current_dir(directory).args([
        "ocsp",
        "-index",
        "index.txt",
        "-rsigner",
        "responder.pem",
        "-rkey",
        "responder.key",
    ]);
    answer.args(["-reqin", "request.der", "-respout", "response.der", "-ndays", "1", "-CA"]);
    run(answer.arg(&ca)).success();
    std::fs::read(directory.join("response.der")).unwrap()
}

#[test]
fn a_good_response_is_stapled_and_one_that_says_otherwise_is_not() {
    let Some(openssl) = tool::find("openssl") else { return };
    let (stack, directory, upstream) = (Stack::start(), tempfile::tempdir().unwrap(), Upstream::start());
    let front = Front::start(&stack, directory.path(), &upstream.url());
    let status = || {
        let mut client = Command::new(&openssl);
        client.args([
            "s_client",
            "-status",
            "-servername",
            "localhost",
            "-connect",
            &front.address.to_string(),
        ]);
        let output = client.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(status().contains("OCSP response: no response sent"), "{}", status());

    let file = directory.path().join("localhost.ocsp");
    replace(&file, respond(&openssl, &stack, directory.path(), "V"));
    let configuration = std::fs::read_to_string(&front.file).unwrap();
    replace(&front.file, format!("{configuration}ocsp = \"{}\"\n", file.display()));
    assert_eq!(front.reloaded(), "READY=1\nSTATUS=reloaded");
    wait::until("the response is stapled", Duration::from_secs(20), || {
        let said = status();
        (said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"))
            .then_some(())
    });

    replace(&file, respond(&openssl, &stack, directory.path(), "R"));
    assert_eq!(front.reloaded(), "READY=1\nSTATUS=reloaded");
    wait::until("it is stapled no more", Duration::from_secs(20), || {
        status().contains("OCSP response: no response sent").then_some(())
    });
}
