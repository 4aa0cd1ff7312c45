//! A page behind the proxy in a browser, which trusts the key that the engines hold and no other.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use hsm_e2e::{Browser, Stack, Upstream, run, tool};

const SIZE: &str = "800,600";

/// Asks for much at once, sends something, and writes down what came of it.
const PAGE: &str = "<!doctype html><title>a page</title><pre id=out>nothing yet</pre><script>
(async () => {
  const sizes = [1, 1000, 100000, 1000000];
  const ask = async (n) => (await (await fetch('/bytes/' + sizes[n % 4])).arrayBuffer()).byteLength;
  const lengths = await Promise.all(Array.from({ length: 40 }, (_, n) => ask(n)));
  const took = await (await fetch('/take', { method: 'POST', body: 'x'.repeat(300000) })).text();
  const head = await (await fetch('/head')).text();
  const protocols = [...new Set(performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol))];
  const sum = lengths.reduce((a, b) => a + b);
  out.textContent = [sum, took.trim(), protocols.join(), head.includes('x-forwarded-proto: https'), isSecureContext].join('; ');
})().catch((error) => { out.textContent = 'failed: ' + error; });
</script>";

#[test]
fn a_browser_has_a_page_with_many_parts_over_http_2() {
    let (Some(browser), Some(openssl)) = (Browser::find(), tool::find("openssl")) else { return };
    let upstream = Upstream::with_page(PAGE);
    let stack = Stack::in_front_of(&upstream.url());
    // Chromium's own form of a pinned key.
    let pipeline = "\"$0\" x509 -in \"$1\" -pubkey -noout | \"$0\" pkey -pubin -outform der | \"$0\" dgst -sha256 -binary | \"$0\" base64";
    let mut hash = Command::new("sh");
    hash.args(["-c", pipeline]).arg(&openssl).arg(stack.state_dir().join("localhost.pem"));
    let pinned = |hash: &str| format!("--ignore-certificate-errors-spki-list={}", hash.trim());
    let look = |hash: &str| browser.look(SIZE, &stack.url("/"), &["--dump-dom", &pinned(hash)]).success();

    let document = look(&run(&mut hash).success());
    assert!(document.contains("11010010; took 300000 bytes; h2; true; true"), "{document}");
    // Another key is not trusted, and the page not asked for.
    let asked = upstream.requests();
    let document = look("MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=");
    assert!(!document.contains("a page"), "{document}");
    assert_eq!(upstream.requests(), asked);
}
