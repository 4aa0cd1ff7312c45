//! The line that each request leaves.

use std::time::{Duration, Instant};

use hsm_proxy::{Config, LogSettings};

use super::support::{Client, Running, Signing, config, request};

const A: &str = "a.example";

/// The lines, as soon as there are so many.
pub(crate) fn lines(path: &std::path::Path, count: usize) -> Vec<String> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap();
        if text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{text}");
        std::thread::sleep(Duration::from_millis(5)); // a file can't be awaited
    }
}

fn logging(to: &std::path::Path, query: bool) -> Config {
    let log = LogSettings { access: Some(to.to_owned()), query, ..LogSettings::default() };
    Config { log, ..config(&[&[A]]) }
}

#[test]
fn requests_are_written_down_without_their_secrets_and_a_reload_changes_how() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["first.log", "second.log"].map(|name| directory.path().join(name));
    let proxy = Running::start(logging(&first, false), Signing::AtOnce);
    let client = Client::new(&proxy);
    let secretive = "Host: a.example\r\nAuthorization: Bearer hush\r\nCookie: id=hush\r\nReferer: https://b.example/?hush";
    let ask = |target: &str| {
        let mut connection = client.connect(A).unwrap();
        request(
            &mut connection,
            &format!("GET {target} HTTP/1.1\r\n{secretive}\r\nConnection: close\r\n\r\n"),
        )
    };
    assert!(ask("/page?token=hush").starts_with("HTTP/1.1 200"));
    assert!(ask("/\"<script>").contains("HTTP/1.1 "));
    let written = lines(&first, 1);
    assert!(
        written[0].contains("\"site\":\"a.example\",\"method\":\"GET\",\"target\":\"/page\""),
        "{}",
        written[0]
    );
    assert!(written[0].contains("\"status\":200,\"bytes\":12,\"seconds\":0."), "{}", written[0]);
    assert!(written[0].contains("\"client\":\"127.0.0.1\""), "{}", written[0]);
    assert!(written[0].contains("\"referer\":\"https://b.example/\",\"tls\":\"TLSv1.3\""), "{}", written[0]);
    assert!(!written.concat().contains("hush"), "{written:?}");

    let mut config = proxy.config();
    config.log = logging(&second, true).log;
    proxy.reload(&config).unwrap();
    ask("/page?wanted");
    assert!(lines(&second, 1)[0].contains("\"target\":\"/page?wanted\""));
    proxy.wait_for_metric("hsm_proxy_access_log_lines_total{result=\"dropped\"} 0\n");
    proxy.wait_for_metric("hsm_proxy_requests_total{site=\"a.example\",status=\"2xx\"} ");
}
