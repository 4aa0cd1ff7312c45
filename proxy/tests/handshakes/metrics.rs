//! The page for Prometheus.

use std::collections::{BTreeSet, HashSet};

use super::support::{Client, Running, Signing, config, get};

const A: &str = "a.example";

/// Names of metrics in the manual's table.
fn documented() -> BTreeSet<String> {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
    manual.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect()
}

#[test]
fn the_text_is_as_its_format_wants_it_and_the_manual_has_each_metric() {
    let proxy = Running::start(config(&[&[A]]), Signing::AtOnce);
    let client = Client::new(&proxy);
    for _ in 0..2 {
        get(&mut client.connect(A).unwrap(), A);
    }
    proxy.wait_for_metric("hsm_proxy_handshakes_total{result=\"resumed\"} 1\n");
    let page = proxy.metrics();
    let (head, text) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");

    let (mut families, mut samples) = (BTreeSet::new(), HashSet::new());
    let mut family = (String::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && families.insert(name.to_owned()), "{line}");
            family.0 = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family.0, "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family.1 = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} in {family:?}"));
            assert!(suffix.is_empty() || (family.1 == "histogram" && suffix.len() > 3), "{line}");
            assert!(value.parse::<f64>().is_ok() && samples.insert(series.to_owned()), "{line}");
        }
    }
    let of_engines = |name: &str| {
        ["signatures", "signature_failures", "failovers", "hedges", "hedge_wins", "engine"]
            .iter()
            .any(|prefix| name.strip_prefix("hsm_proxy_").unwrap().starts_with(prefix))
    };
    assert!(families.iter().all(|name| documented().contains(name)), "{families:?}");
    let missing: Vec<_> = documented()
        .into_iter()
        .filter(|name| {
            !families.contains(name) && (!of_engines(name) || name == "hsm_proxy_signature_seconds")
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?} are in the manual only");
    for line in [
        "hsm_proxy_signature_seconds_count{stage=\"answer\"} 1\n",
        "hsm_proxy_handshake_seconds_count{result=\"full\"} 1\n",
        "hsm_proxy_handshake_seconds_count{result=\"resumed\"} 1\n",
        "hsm_proxy_requests_total{site=\"a.example\",status=\"2xx\"} 2\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}
