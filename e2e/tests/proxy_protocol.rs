//! Between other people's proxies: HAProxy says who the clients are, nginx is told.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use hsm_e2e::front::{configuration, replace};
use hsm_e2e::{Front, Program, Stack, address, nginx, run, tool};

#[test]
fn the_client_is_known_from_one_end_to_the_other() {
    let Some([haproxy, web, curl]) = tool::find_all(["haproxy", "nginx", "curl"]) else {
        return;
    };
    let stack = Stack::start();
    let directory = tempfile::tempdir().unwrap();
    let [server, balancer] = address::free();
    let says = "location / { return 200 \"$proxy_protocol_addr $http_x_forwarded_for $http_forwarded\"; }";
    let block = format!("server {{ listen {server} proxy_protocol; {says} }}");
    let _nginx = nginx(&web, directory.path(), &block, server);

    let front = Front::start(&stack, directory.path(), "http://127.0.0.1:9");
    let text = configuration(&stack, &front.certificate, front.address, "nginx").replace(
        "[proxy]\n",
        &format!(
            "[[upstream]]\nname = \"nginx\"\nservers = [\"http://{server}\"]\nproxy-protocol = \"v2\"\n\
             health-check = \"http:/\"\n[proxy]\naccept-proxy-protocol-from = [\"127.0.0.1\"]\n"
        ),
    );
    replace(&front.file, text);
    assert!(front.reloaded().starts_with("READY=1"), "it is reloaded");

    let file = directory.path().join("haproxy.cfg");
    for send in ["send-proxy-v2", "send-proxy"] {
        let text = format!(
            "global\n maxconn 100\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen tls\n bind {balancer}\n server proxy {} {send}\n",
            front.address
        );
        std::fs::write(&file, text).unwrap();
        let _haproxy = Program::start(Command::new(&haproxy).arg("-db").arg("-f").arg(&file));
        address::await_port("HAProxy", balancer);
        for version in ["--http1.1", "--http2"] {
            let mut curl = stack.curl(&curl);
            curl.args([version, "--interface", "127.0.0.77"])
                .arg(format!("https://localhost:{}/", balancer.port()));
            let told = run(&mut curl).success();
            let expected = format!(
                "127.0.0.77 127.0.0.77 for=127.0.0.77;host=\"localhost:{}\";proto=https",
                balancer.port()
            );
            assert_eq!(told, expected, "{send} {version}");
        }
    }
}
