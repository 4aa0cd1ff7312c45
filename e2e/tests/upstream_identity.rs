//! Upstreams that want to know who connects: the proxy shows nginx a certificate whose key is in the engines.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use hsm_e2e::front::{configuration, replace};
use hsm_e2e::{Front, OpensslAuthority, Stack, address, nginx, run, self_signed, tool};
use rustix::process::Signal;

/// A key of usage tls-client and its certificate, made as docs/certificates.md says, by an authority of openssl's.
fn certify(stack: &Stack, openssl: &Path, directory: &Path) {
    let web = |arguments: &[&str]| {
        run(stack.hsm_as("web").current_dir(directory).args(arguments)).success();
    };
    let generate = ["key", "generate-asymmetric-pair", "ec", "--curve", "p256", "--label", "out"];
    web(&[&generate[..], &["--usage", "tls-client"]].concat());
    web(&["cert", "csr", "--key", "out", "--cn", "proxy.example.org", "--out", "client.csr"]);
    OpensslAuthority::create(openssl, directory).sign("client", "clientAuth", &[]);
}

#[test]
fn nginx_verifies_who_connects_while_each_engine_is_killed() {
    let Some([openssl, web, curl]) = tool::find_all(["openssl", "nginx", "curl"]) else {
        return;
    };
    let (stack, directory, [server]) = (Stack::start(), tempfile::tempdir().unwrap(), address::free());
    let place = directory.path();
    certify(&stack, &openssl, place);
    let (key, certificate) = self_signed(&openssl, place, "server");
    // No request finds a connection or a session from before: each takes a signature of the engines.
    let block = format!(
        "server {{ listen {server} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_session_cache off; \
         ssl_session_tickets off; ssl_client_certificate {}; ssl_verify_client on; keepalive_timeout 0; \
         location / {{ return 200 \"$ssl_client_verify $ssl_client_s_dn\"; }} }}",
        certificate.display(),
        key.display(),
        place.join("ca.crt").display(),
    );
    let _nginx = nginx(&web, place, &block, server);

    let front = Front::start(&stack, place, "http://127.0.0.1:9");
    let upstream = |more: &str| {
        let tables = format!(
            "[[upstream]]\nname = \"inner\"\nservers = [\"https://localhost:{}\"]\ntls-ca = {certificate:?}\n{more}[proxy]\n",
            server.port()
        );
        let text = configuration(&stack, &front.certificate, front.address, "inner");
        replace(&front.file, text.replace("[proxy]\n", &tables));
        assert_eq!(front.reloaded(), "READY=1\nSTATUS=reloaded");
    };
    upstream("");
    let told = front.get(&stack, &curl);
    assert!(told.contains("No required SSL certificate was sent"), "{told}");

    upstream(&format!("client-cert = {:?}\n", place.join("client.crt")));
    let served = |count| {
        for _ in 0..count {
            assert_eq!(front.get(&stack, &curl), "SUCCESS CN=proxy.example.org");
        }
    };
    served(5);
    for replica in [0, 1] {
        stack.signal_engine(replica, Signal::KILL);
        served(10);
        address::await_socket("the engine", &stack.engine_socket(replica));
    }
    served(5);
}
