//! The status page and the JSON that it reads.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Client, Running, Signing, config, get};

const A: &str = "a.example";

fn report(proxy: &Running, query: &str) -> Value {
    let response = proxy.admin(&format!("/status.json{query}"));
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let head = head.to_lowercase();
    assert!(
        head.contains("content-type: application/json") && head.contains("cache-control: no-store"),
        "{head}"
    );
    serde_json::from_str(body).unwrap()
}

/// The sum of what a field says in all samples.
fn total(report: &Value, field: &str) -> u64 {
    let at = report["fields"].as_array().unwrap().iter().position(|name| name == field).unwrap();
    report["samples"].as_array().unwrap().iter().filter_map(|sample| sample[at].as_u64()).sum()
}

/// The report whose samples have so many of a field.
fn wait_for(proxy: &Running, field: &str, count: u64) -> Value {
    let start = Instant::now();
    loop {
        let report = report(proxy, "");
        if total(&report, field) == count {
            return report;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not {count} of {field}: {report:#}");
        std::thread::sleep(Duration::from_millis(50)); // a sample comes each second
    }
}

/// Names of fields in the manual's tables.
fn documented() -> BTreeSet<String> {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status-page.md")).unwrap();
    let names =
        manual.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    names.flat_map(|names| names.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The names of all members of all objects.
fn add_names(value: &Value, to: &mut BTreeSet<String>) {
    match value {
        // Their names are the labels of metrics.
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            to.insert(name.clone());
            if name != "handshakes" {
                add_names(value, to);
            }
        }),
        Value::Array(values) => values.iter().for_each(|value| add_names(value, to)),
        _ => {}
    }
}

#[test]
fn the_report_says_what_is_and_what_was_and_the_manual_has_each_field() {
    let proxy = Running::start(config(&[&[A, "b.example"]]), Signing::AtOnce);
    // So that all that follows is in samples.
    let start = Instant::now();
    while report(&proxy, "")["samples"].as_array().unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20)); // a sample comes each second
    }
    let client = Client::new(&proxy);
    for _ in 0..2 {
        get(&mut client.connect(A).unwrap(), A);
    }
    let _ = Client::new(&proxy).connect("nobody.example");
    wait_for(&proxy, "failed", 1);
    wait_for(&proxy, "requests", 2);
    let report = wait_for(&proxy, "resumed", 1);
    assert_eq!(total(&report, "full"), 1, "{report:#}");
    assert!(total(&report, "signature-p50-us") > 0 && total(&report, "signature-p99-us") > 0, "{report:#}");
    assert_eq!(report["totals"]["handshakes"]["unknown-site"], 1);
    assert_eq!(report["totals"]["requests"], 2);
    let site = &report["sites"][0];
    assert_eq!((&site["name"], &site["hosts"][1]), (&A.into(), &"b.example".into()));
    assert_eq!((&site["requests"], &report["site-count"]), (&2.into(), &1.into()));
    assert!(site["days-left"].as_i64().unwrap() > 0, "{site}");
    assert_eq!(
        (&report["ready"], &report["draining"], &report["workers"]),
        (&true.into(), &false.into(), &2.into())
    );
    assert_eq!(
        (&report["servers"][0]["url"], &report["servers"][0]["up"]),
        (&"http://127.0.0.1:1".into(), &true.into())
    );

    let mut names = BTreeSet::new();
    add_names(&report, &mut names);
    for field in report["fields"].as_array().unwrap() {
        names.insert(field.as_str().unwrap().to_owned());
    }
    let missing: Vec<_> = names.difference(&documented()).cloned().collect();
    assert!(missing.is_empty(), "{missing:?} are not in the manual");
}

#[test]
fn a_page_that_comes_again_gets_only_what_is_new() {
    let proxy = Running::start(config(&[&[A]]), Signing::AtOnce);
    let start = Instant::now();
    let seen = loop {
        let report = report(&proxy, "");
        if let [.., _, last] = &report["samples"].as_array().unwrap()[..] {
            break last[0].as_u64().unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50)); // a sample comes each second
    };
    for later in report(&proxy, &format!("?since={seen}"))["samples"].as_array().unwrap() {
        assert!(later[0].as_u64().unwrap() > seen);
    }
    assert!(report(&proxy, &format!("?since={}", u64::MAX))["samples"].as_array().unwrap().is_empty());
    for nonsense in ["?since=", "?since=-1", "?since=99999999999999999999999", "?other=1&since", "?%ff"] {
        assert!(report(&proxy, nonsense)["samples"].as_array().unwrap().len() >= 2, "{nonsense}");
    }
}

#[test]
fn the_page_is_whole_and_its_policy_allows_nothing_else() {
    let proxy = Running::start(config(&[&[A]]), Signing::AtOnce);
    for path in ["/", "/status"] {
        let page = proxy.admin(path);
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/html"), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none';"), "{head}");
        assert!(head.contains("frame-ancestors 'none'") && !head.contains("unsafe-inline"), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(body.starts_with("<!doctype html>") && body.trim_end().ends_with("</html>"));
    }
}

#[test]
fn pages_of_other_sites_read_nothing_by_names_of_theirs() {
    let mut settings = config(&[&[A]]);
    settings.proxy.admin_hosts = vec!["proxy.internal".parse().unwrap()];
    let proxy = Running::start(settings, Signing::AtOnce);
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:9443", 200),
        ("[::1]:9443", 200),
        ("LocalHost:9443", 200),
        ("Proxy.internal", 200),
        ("rebound.example", 421),
        ("rebound.example:9443", 421),
        ("127.0.0.1.rebound.example", 421),
        ("other.proxy.internal", 421),
        ("a@b@c", 421),
    ] {
        for path in ["/", "/status.json", "/metrics"] {
            let response = proxy.admin_as(host, path);
            assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{host} {path}: {response}");
        }
        let alive = proxy.admin_as(host, "/healthz");
        assert!(alive.starts_with("HTTP/1.1 200"), "{host}: {alive}");
    }
}
