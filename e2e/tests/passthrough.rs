//! Connections that are passed on: clients of other kinds see the servers behind, openssl's and nginx.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Stdio};

use hsm_e2e::front::{configuration, replace};
use hsm_e2e::{Finished, Front, Program, Stack, address, nginx, run, self_signed, tool};

/// What `openssl s_client` says, which trusts that certificate alone and has its end of input at once.
fn see(openssl: &Path, front: &Front, name: &str, alpn: &str, trusted: &Path) -> Finished {
    let mut client = Command::new(openssl);
    client.args(["s_client", "-servername", name, "-alpn", alpn, "-verify_return_error", "-connect"]);
    run(client.arg(front.address.to_string()).arg("-CAfile").arg(trusted))
}

#[test]
fn clients_see_the_certificate_and_the_protocol_of_the_server_behind() {
    let Some([openssl, web, curl]) = tool::find_all(["openssl", "nginx", "curl"]) else {
        return;
    };
    let (stack, directory) = (Stack::start(), tempfile::tempdir().unwrap());
    let place = directory.path();
    let [by_openssl, by_nginx] = ["openssl", "nginx"].map(|name| self_signed(&openssl, place, name));
    let ([server, probe], socket) = (address::free(), place.join("nginx.sock"));
    let mut command = Command::new(&openssl);
    command.args(["s_server", "-quiet", "-www", "-alpn", "test/1", "-accept"]).arg(server.to_string());
    command.arg("-key").arg(&by_openssl.0).arg("-cert").arg(&by_openssl.1);
    let _server = Program::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
    address::await_port("openssl", server);
    let block = format!(
        "server {{ listen {probe}; listen unix:{} ssl; ssl_certificate {}; ssl_certificate_key {}; \
         location / {{ return 200 \"$ssl_server_name $server_protocol\"; }} }}",
        socket.display(),
        by_nginx.1.display(),
        by_nginx.0.display(),
    );
    let _nginx = nginx(&web, place, &block, probe);
    address::await_socket("nginx", &socket);

    let front = Front::start(&stack, place, "http://127.0.0.1:9");
    let tables = format!(
        "[[passthrough]]\nhost = \"openssl.example\"\nto = \"tcp://{server}\"\n\
         [[passthrough]]\nhost = \"nginx.example\"\nto = \"unix:{}\"\n[proxy]\n",
        socket.display()
    );
    let text = configuration(&stack, &front.certificate, front.address, "http://127.0.0.1:9");
    replace(&front.file, text.replace("[proxy]\n", &tables));
    assert_eq!(front.reloaded(), "READY=1\nSTATUS=reloaded");

    let (own, alpn) = (stack.ca(), "test/1");
    for (name, alpn, trusted, distrusted) in [
        ("openssl.example", alpn, &by_openssl.1, &own),
        ("nginx.example", "http/1.1", &by_nginx.1, &by_openssl.1),
        ("localhost", "h2", &own, &by_nginx.1),
    ] {
        let seen = see(&openssl, &front, name, alpn, trusted).success();
        assert!(seen.contains(&format!("ALPN protocol: {alpn}")), "{name}: {seen}");
        assert_ne!(see(&openssl, &front, name, alpn, distrusted).code, Some(0), "{name} shows its own");
    }
    let mut client = Command::new(&curl);
    client.args(["--silent", "--show-error", "--insecure", "--noproxy", "*", "--http1.1", "--connect-to"]);
    client.arg(format!("::127.0.0.1:{}", front.address.port())).arg("https://nginx.example/");
    assert_eq!(run(&mut client).success(), "nginx.example HTTP/1.1");
}
