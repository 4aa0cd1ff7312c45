//! The units of docs/systemd as systemd's own analysis sees them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use hsm_e2e::tool;

/// The highest exposure that a unit may have, of 10.
const LIMIT: f64 = 2.0;

fn path_of(unit: &str) -> String {
    format!("{}/../docs/systemd/{unit}", env!("CARGO_MANIFEST_DIR"))
}

/// The group @resources has the call, and what is denied with it has to be allowed again.
#[test]
fn engines_may_lower_the_priority_of_their_threads() {
    let unit = std::fs::read_to_string(path_of("hsm-engine.service")).unwrap();
    let filters: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    let denied = filters.iter().position(|filter| filter.starts_with('~')).unwrap();
    let calls = |filter: &&str| filter.split(' ').any(|call| call == "setpriority");
    assert!(filters[denied + 1..].iter().any(calls), "{filters:?}");
}

#[test]
fn each_unit_is_exposed_less_than_two() {
    let Some(systemd_analyze) = tool::find("systemd-analyze") else { return };
    for unit in ["hsm-engine.service", "hsm-proxy.service"] {
        let path = path_of(unit);
        let analysis = Command::new(&systemd_analyze)
            .args(["security", "--offline=yes", "--no-pager"])
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&analysis.stdout);
        let exposure: f64 = text
            .lines()
            .find_map(|line| line.split_once("Overall exposure level for ")?.1.split_once(": "))
            .and_then(|(_, level)| level.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("no exposure in {text}{}", String::from_utf8_lossy(&analysis.stderr)));
        assert!(exposure < LIMIT, "{unit} has an exposure of {exposure}:\n{text}");
    }
}
