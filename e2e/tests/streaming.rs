//! Bodies of a gibibyte pass both ways, and the proxy's memory stays flat.

#![allow(clippy::unwrap_used, reason = "a test")]

use hsm_e2e::{Stack, Upstream, address, memory, nginx, run, tool};

const GIB: u64 = 1 << 30;
const MAX_GROWTH_KIB: u64 = 32 * 1024;

#[test]
fn a_gibibyte_each_way_in_flat_memory() {
    let Some(curl) = tool::find("curl") else { return };
    let upstream = Upstream::start();
    let stack = Stack::in_front_of(&upstream.url());
    for protocol in ["--http1.1", "--http2"] {
        // Both directions once in small, so that buffers and allocator arenas are there before the measurement.
        transfer(&stack, &curl, protocol, 8 << 20);
        let before = memory::resident_kib(stack.proxy_pid());
        transfer(&stack, &curl, protocol, GIB);
        let after = memory::resident_kib(stack.proxy_pid());
        println!("{protocol}: {before} KiB before, {after} KiB after 1 GiB down and 1 GiB up");
        assert!(after < before + MAX_GROWTH_KIB, "{protocol}: grew from {before} to {after} KiB");
    }
}

fn transfer(stack: &Stack, curl: &std::path::Path, protocol: &str, bytes: u64) {
    let down = run(stack
        .curl(curl)
        .args([protocol, "--output", "/dev/null", "--write-out", "%{http_code} %{size_download}"])
        .arg(stack.url(&format!("/bytes/{bytes}"))))
    .success();
    assert_eq!(down, format!("200 {bytes}"), "{protocol} down");

    let directory = tempfile::tempdir().unwrap();
    let body = directory.path().join("body");
    std::fs::File::create(&body).unwrap().set_len(bytes).unwrap();
    let up = run(stack
        .curl(curl)
        .args([protocol, "--request", "POST", "--header", "expect:", "--upload-file"])
        .arg(&body)
        .arg(stack.url("/upload")))
    .success();
    assert_eq!(up, format!("took {bytes} bytes\n"), "{protocol} up");
}

#[test]
fn a_real_nginx_as_upstream() {
    let Some([curl, web]) = tool::find_all(["curl", "nginx"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir(root.join("www")).unwrap();
    std::fs::write(root.join("www/index.html"), "from nginx\n").unwrap();
    let [server] = address::free();
    let http = format!(
        "gzip on; log_format forwarded '$http_x_forwarded_for|$http_x_forwarded_proto|$http_host';\n\
         server {{ listen {server}; root {root}/www; access_log {root}/access.log forwarded; }}",
        root = root.display()
    );
    let _nginx = nginx(&web, root, &http, server);

    let stack = Stack::in_front_of(&format!("http://{server}"));
    for protocol in ["--http1.1", "--http2"] {
        let body = run(stack.curl(&curl).arg(protocol).arg(stack.url("/"))).success();
        assert_eq!(body, "from nginx\n");
    }
    let missing = run(stack
        .curl(&curl)
        .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
        .arg(stack.url("/missing")))
    .success();
    assert_eq!(missing, "404");
    let seen = std::fs::read_to_string(root.join("access.log")).unwrap();
    let expected = format!("127.0.0.1|https|localhost:{}", stack.address().port());
    assert!(seen.lines().any(|line| line == expected), "{expected} not in {seen}");
}
