//! Clients in Python that people use: requests, httpx with HTTP/2, grpcio.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use hsm_e2e::{Program, Stack, Upstream, run, tool};

/// Runs a script with a URL of the proxy and its CA; it says what it saw.
fn script(python: &Path, name: &str, stack: &Stack) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_clients").join(name);
    run(Command::new(python).arg(file).arg(stack.url("")).arg(stack.ca())).success()
}

#[test]
fn requests_and_httpx_get_send_stream_and_share_connections() {
    let Some(python) = tool::python(&["requests", "httpx", "h2"]) else { return };
    let upstream = Upstream::start();
    let stack = Stack::in_front_of(&upstream.url());
    let said = script(&python, "http_clients.py", &stack);
    assert!(said.contains("requests: 7 of 7") && said.contains("httpx: 6 of 6"), "{said}");
    assert_eq!(upstream.requests(), 3 + 1 + 2 + 1 + 1 + 100 + 1 + 1 + 1, "{said}");
}

#[test]
fn grpc_calls_streams_deadlines_and_errors_pass() {
    let Some(python) = tool::python(&["grpc"]) else { return };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_clients/grpc_server.py");
    let mut server = Program::start(Command::new(&python).arg(file).stdout(Stdio::piped()));
    let mut port = String::new();
    BufReader::new(server.child().stdout.take().unwrap()).read_line(&mut port).unwrap();
    let stack = Stack::in_front_of(&format!("h2c://127.0.0.1:{}", port.trim()));
    let said = script(&python, "grpc_client.py", &stack);
    assert!(said.contains("grpc: 8 of 8"), "{said}");
}
