//! Killing or freezing an engine under load costs nobody a handshake.
//!
//! Fewer rounds than the drill that the documentation reports: `hsm-loadtest drill` does the same with more.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hsm_e2e::{Program, Stack, address, binary, run, tool, wait};
use rustix::process::Signal;

fn drill(stack: &Stack, arguments: &[&str]) {
    let report = run(Command::new(binary("hsm-loadtest"))
        .args(["drill", "--connect", &stack.address().to_string(), "--concurrency", "64"])
        .arg("--state-dir")
        .arg(stack.state_dir())
        .args(arguments));
    println!("{}{}", report.stdout, report.stderr);
    report.success();
}

#[test]
fn killing_an_engine_loses_no_handshake() {
    let stack = Stack::start();
    for victim in ["0", "1", "0"] {
        drill(&stack, &["--kill", victim, "--at", "50%", "--count", "2000", "--max-latency", "5s"]);
    }
}

#[test]
fn freezing_an_engine_loses_no_handshake() {
    let stack = Stack::start();
    // A debug build on a busy machine: the bound is on what a frozen engine could cost, which is for ever.
    drill(&stack, &["--stop", "0", "--at", "50%", "--for", "2s", "--count", "2000", "--max-latency", "5s"]);
}

#[test]
fn with_both_engines_down_open_connections_go_on_and_the_proxy_recovers() {
    let Some(curl) = tool::find("curl") else { return };
    let stack = Stack::start();
    let mut open = keep_alive(&stack);
    request(&mut open);

    // Frozen, so that the supervisor does not bring them back.
    let engines = [stack.signal_engine(0, Signal::STOP), stack.signal_engine(1, Signal::STOP)];
    let thaw = Thaw(engines);
    request(&mut open);
    let started = Instant::now();
    let refused = run(stack.curl(&curl).arg(stack.url("/")));
    assert_ne!(refused.code, Some(0), "no engine, no handshake");
    assert!(started.elapsed() < Duration::from_secs(15), "within the deadline, not {:?}", started.elapsed());
    request(&mut open);

    drop(thaw);
    wait::until("new handshakes succeed again", Duration::from_secs(10), || {
        (run(stack.curl(&curl).arg(stack.url("/"))).code == Some(0)).then_some(())
    });
    request(&mut open);
}

#[test]
fn both_engines_killed_are_both_back() {
    let Some(curl) = tool::find("curl") else { return };
    let stack = Stack::start();
    for replica in [0, 1] {
        stack.signal_engine(replica, Signal::KILL);
    }
    wait::until("new handshakes succeed again", Duration::from_secs(10), || {
        (run(stack.curl(&curl).arg(stack.url("/"))).code == Some(0)).then_some(())
    });
}

struct Thaw([i32; 2]);

impl Drop for Thaw {
    fn drop(&mut self) {
        for pid in self.0 {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _gone = rustix::process::kill_process(pid, Signal::CONT);
            }
        }
    }
}

type Open = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn keep_alive(stack: &Stack) -> Open {
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots(&stack.ca())).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let socket = TcpStream::connect(stack.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    rustls::StreamOwned::new(connection, socket)
}

fn roots(ca: &Path) -> rustls::RootCertStore {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    roots
}

fn request(open: &mut Open) {
    use std::io::{Read, Write};
    open.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        open.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
        })
        .expect("a length");
    let mut body = vec![0; length];
    open.read_exact(&mut body).unwrap();
}

#[test]
fn a_proxy_that_starts_before_its_engines_serves_when_they_come() {
    let Some(curl) = tool::find("curl") else { return };
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let mut first = Stack::start_with(hsm_e2e::StackOptions { state_dir: Some(state.clone()), to: None });
    first.proxy().signal(Signal::TERM);
    first.proxy().wait(Duration::from_secs(20));
    drop(first);

    let [address] = address::free();
    let upstream = hsm_e2e::Upstream::start();
    let configuration = format!(
        "[proxy]\nlisten = [\"{address}\"]\n[hsm]\nengines = [\"{run}/engine-0.sock\", \"{run}/engine-1.sock\"]\n\
         user = \"web\"\npassword-file = \"{state}/secrets/web-password\"\n\
         [[site]]\nhost = \"localhost\"\ncert = \"{state}/localhost.pem\"\nto = \"{to}\"\n",
        run = state.join("run").display(),
        state = state.display(),
        to = upstream.url(),
    );
    let file = directory.path().join("proxy.toml");
    std::fs::write(&file, configuration).unwrap();
    let _proxy = Program::start(Command::new(binary("hsm-proxy")).arg("run").arg("--config").arg(&file));
    address::await_port("the proxy", address);

    let mut engines = Program::start(
        Command::new(binary("hsm-engine"))
            .args(["run", "--config"])
            .arg(state.join("engine.toml"))
            .stdin(Stdio::null()),
    );
    let url = format!("https://localhost:{}/", address.port());
    wait::until("a handshake succeeds", Duration::from_secs(20), || {
        let answer = run(Command::new(&curl)
            .args(["--silent", "--max-time", "10", "--noproxy", "*", "--cacert"])
            .arg(state.join("ca.pem"))
            .arg(&url));
        (answer.code == Some(0)).then_some(())
    });
    let checked = run(Command::new(binary("hsm-proxy")).arg("check").arg("--config").arg(&file));
    println!("{}", checked.stdout);
    checked.success();
    // A site's key is none to show to upstreams with.
    let state = state.display();
    let shown = format!(
        "\n[[upstream]]\nname = \"inner\"\nservers = [\"https://localhost:1\"]\n\
         tls-ca = \"{state}/ca.pem\"\nclient-cert = \"{state}/localhost.pem\"\n"
    );
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &shown).unwrap();
    let checked = run(Command::new(binary("hsm-proxy")).arg("check").arg("--config").arg(&file));
    assert_ne!(checked.code, Some(0), "{}", checked.stdout);
    assert!(checked.stdout.contains("is not of usage tls-client"), "{}", checked.stdout);
    engines.signal(Signal::TERM);
    engines.wait(Duration::from_secs(20));
}
