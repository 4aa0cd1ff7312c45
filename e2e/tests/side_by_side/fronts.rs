use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hsm_e2e::{Program, SelfMadeKey, Stack, StackOptions, address, tool};

use crate::client::Client;
use crate::recorder::Recorder;

/// A TLS front before the recorder, and the way to ask it.
pub(crate) struct Front {
    pub(crate) client: Client,
    _stack: Option<Stack>,
    _program: Option<Program>,
    _directory: Option<tempfile::TempDir>,
}

pub(crate) fn hsm_proxy(recorder: &Recorder) -> Front {
    let to = Some(format!("http://{}", recorder.address));
    let stack = Stack::start_with(StackOptions { to, ..StackOptions::default() });
    let client = Client::new(stack.address(), &stack.ca());
    Front { client, _stack: Some(stack), _program: None, _directory: None }
}

/// Its defaults, but for the things without which it would not be a TLS proxy that keeps upstream connections.
pub(crate) fn nginx(recorder: &Recorder) -> Front {
    let (nginx, directory, key, address) = prepared(tool::find_all(["openssl", "nginx"]));
    let http = format!(
        "server {{ listen {address} ssl; server_name localhost; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
         location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Host $host;\n\
         proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $remote_addr; }} }}",
        certificate = key.certificate.display(),
        key = key.pem.display(),
        upstream = recorder.address,
    );
    let program = hsm_e2e::nginx(&nginx, directory.path(), &http, address);
    started(program, directory, &key, address)
}

/// Its defaults in HTTP mode, with `option forwardfor`.
pub(crate) fn haproxy(recorder: &Recorder) -> Front {
    let (haproxy, directory, key, address) = prepared(tool::find_all(["openssl", "haproxy"]));
    let both = directory.path().join("both.pem");
    let pem =
        std::fs::read_to_string(&key.certificate).unwrap() + &std::fs::read_to_string(&key.pem).unwrap();
    std::fs::write(&both, pem).unwrap();
    let configuration = format!(
        "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
         frontend f\n  bind {address} ssl crt {both}\n  option forwardfor\n  default_backend b\n\
         backend b\n  server s {upstream}\n",
        both = both.display(),
        upstream = recorder.address,
    );
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(haproxy);
    command.arg("-db").arg("-f").arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let program = Program::start(&mut command);
    address::await_port("HAProxy", address);
    started(program, directory, &key, address)
}

fn prepared(tools: Option<[PathBuf; 2]>) -> (PathBuf, tempfile::TempDir, SelfMadeKey, SocketAddr) {
    let [openssl, program] = tools.expect("needed to write the table");
    let directory = tempfile::tempdir().unwrap();
    let key = SelfMadeKey::generate(&openssl, directory.path());
    let [address] = address::free();
    (program, directory, key, address)
}

fn started(program: Program, directory: tempfile::TempDir, key: &SelfMadeKey, address: SocketAddr) -> Front {
    let client = Client::new(address, &key.certificate);
    Front { client, _stack: None, _program: Some(program), _directory: Some(directory) }
}
