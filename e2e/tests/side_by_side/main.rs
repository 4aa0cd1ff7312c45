//! The same requests, ordinary and hostile, byte by byte the same, to this proxy, nginx and HAProxy, each with TLS and
//! before an upstream of its own that writes down what arrives.
//!
//! `docs/http-behaviour.md` is the table of what each made of them. The test fails if this proxy does not do any more what
//! the table says. With `HSM_WRITE_DOCS=1` it asks all three and writes the table anew.

#![allow(clippy::unwrap_used, reason = "a test")]

mod cases;
mod client;
mod fronts;
mod recorder;
mod table;

use cases::{Case, cases};
use client::Client;
use recorder::Recorder;

/// What a front made of a request: the statuses that the client got, and what the upstream saw.
fn outcomes(client: &Client, recorder: &Recorder, cases: &[Case]) -> Vec<String> {
    let mut outcomes = Vec::new();
    for case in cases {
        let answer = client.send(&case.bytes());
        let seen = recorder.take();
        let got = if answer.is_empty() { "closed".to_owned() } else { answer.join(", ") };
        let seen = if seen.is_empty() { String::new() } else { format!(": {}", seen.join("; ")) };
        outcomes.push(got + &seen);
    }
    outcomes
}

#[test]
fn the_table_of_behaviours_is_what_is_seen() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let recorder = Recorder::start();
    let proxy = fronts::hsm_proxy(&recorder);
    let here = outcomes(&proxy.client, &recorder, &cases);

    if std::env::var_os("HSM_WRITE_DOCS").is_none() {
        let table = table::read();
        assert_eq!(table.len(), cases.len(), "the table has other rows; write it anew with HSM_WRITE_DOCS=1");
        for ((case, seen), row) in cases.iter().zip(&here).zip(&table) {
            assert_eq!((case.name, seen.as_str()), (row.name.as_str(), row.here.as_str()), "{:?}", case.raw);
        }
        return;
    }
    let (nginx, haproxy) = (fronts::nginx(&recorder), fronts::haproxy(&recorder));
    let (nginx, haproxy) =
        (outcomes(&nginx.client, &recorder, &cases), outcomes(&haproxy.client, &recorder, &cases));
    table::write(&cases, &here, &nginx, &haproxy);
}
