use std::num::NonZeroU32;
use std::time::Instant;

use rustls::client::Resumption;

use super::*;
use crate::TlsVersion;
use crate::test_server::{Manner, TestServer, load};

fn run(load: Load) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut running = load.start().unwrap();
        running.finished().await.unwrap();
        running.tally().clone()
    })
}

fn categories(tally: &Tally) -> Vec<(&str, u64)> {
    tally.failures.iter().map(|(name, failures)| (name.as_str(), failures.count)).collect()
}

#[test]
fn a_count_of_full_handshakes_is_made_and_counted() {
    let server = TestServer::start(Manner::Good(200));
    let tally = run(Load { threads: 2, ..server.load(Extent::Count(100)) });
    assert_eq!((tally.handshakes(), categories(&tally), tally.abandoned()), (100, vec![], 0));
    assert_eq!(server.seen(), (100, 0));
    assert_eq!(tally.seconds.iter().map(|second| second.handshakes).sum::<u64>(), 100);
    assert_eq!(tally.negotiated.unwrap().version, "TLSv1_3");
}

#[test]
fn tls_1_2_can_be_asked_for() {
    let server = TestServer::start(Manner::Good(200));
    let options = crate::TargetOptions { version: Some(TlsVersion::V12), ..server.options() };
    let tally = run(load(&options, Extent::Count(10)));
    assert_eq!((tally.handshakes(), tally.failed_count()), (10, 0));
    assert_eq!(server.seen(), (10, 0));
    assert_eq!(tally.negotiated.unwrap().version, "TLSv1_2");
}

#[test]
fn numbered_names_are_asked_for_in_turn() {
    let server = TestServer::start(Manner::Good(200));
    // The certificate is for localhost, so of these names that one alone is good.
    let options = crate::TargetOptions {
        server_name: "local{}host".to_owned(),
        numbers: Some("0..10".parse().unwrap()),
        ..server.options()
    };
    let tally = run(load(&options, Extent::Count(20)));
    assert_eq!((tally.handshakes(), categories(&tally)), (0, vec![("certificate", 20)]));
}

#[test]
fn a_duration_ends() {
    let server = TestServer::start(Manner::Good(200));
    let begun = Instant::now();
    let tally = run(server.load(Extent::Duration(Duration::from_millis(200))));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(tally.handshakes() > 0);
    assert_eq!((tally.failed_count(), tally.abandoned()), (0, 0));
}

#[test]
fn an_open_loop_keeps_its_appointments() {
    let server = TestServer::start(Manner::Good(200));
    let begun = Instant::now();
    let tally = run(Load { rate: Some(500.0), ..server.load(Extent::Count(100)) });
    // The hundredth is due 198 ms after the first.
    assert!(begun.elapsed() >= Duration::from_millis(198));
    assert_eq!((tally.handshakes(), tally.failed_count()), (100, 0));
}

#[test]
fn failures_are_told_apart() {
    let good = TestServer::start(Manner::Good(200));
    let stranger = TestServer::start(Manner::Good(200));
    let untrusted = crate::TargetOptions { ca: stranger.ca(), ..good.options() };
    assert_eq!(categories(&run(load(&untrusted, Extent::Count(3)))), [("certificate", 3)]);
    let misnamed = crate::TargetOptions { server_name: "example.org".to_owned(), ..good.options() };
    assert_eq!(categories(&run(load(&misnamed, Extent::Count(3)))), [("certificate", 3)]);

    let refuses = TestServer::start(Manner::Refuses);
    assert_eq!(categories(&run(refuses.load(Extent::Count(3)))), [("alert: AccessDenied", 3)]);

    let silent = TestServer::start(Manner::Silent);
    let load = Load { timeout: Duration::from_millis(50), ..silent.load(Extent::Count(3)) };
    assert_eq!(categories(&run(load)), [("timeout", 3)]);

    let closes = TestServer::start(Manner::Closes);
    let tally = run(closes.load(Extent::Count(3)));
    assert_eq!(
        tally.failed_by("closed") + tally.failed_by("io: connection reset"),
        3,
        "{:?}",
        tally.failures
    );

    let mut nobody = closes.options();
    nobody.connect = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let tally = run(crate::test_server::load(&nobody, Extent::Count(3)));
    assert_eq!(categories(&tally), [("connect: connection refused", 3)]);
    assert_eq!(tally.handshakes(), 0);
}

#[test]
fn a_self_signed_certificate_can_be_trusted_by_itself() {
    let server = TestServer::start(Manner::SelfSigned);
    let tally = run(server.load(Extent::Count(5)));
    assert_eq!((tally.handshakes(), categories(&tally)), (5, vec![]));
    let misnamed = crate::TargetOptions { server_name: "example.org".to_owned(), ..server.options() };
    assert_eq!(categories(&run(load(&misnamed, Extent::Count(3)))), [("certificate", 3)]);
    let stranger = TestServer::start(Manner::SelfSigned);
    let untrusted = crate::TargetOptions { ca: stranger.ca(), ..server.options() };
    assert_eq!(categories(&run(load(&untrusted, Extent::Count(3)))), [("certificate", 3)]);
}

#[test]
fn a_wrong_signature_is_found_by_who_looks() {
    let server = TestServer::start(Manner::SignsWrongly);
    for version in [TlsVersion::V12, TlsVersion::V13] {
        for (one_in, found) in [(1, 8), (4, 2)] {
            let verify_one_in = NonZeroU32::new(one_in).unwrap();
            let options = crate::TargetOptions { verify_one_in, version: Some(version), ..server.options() };
            let tally = run(load(&options, Extent::Count(8)));
            assert_eq!((tally.handshakes(), categories(&tally)), (8 - found, vec![("certificate", found)]));
        }
    }
}

#[test]
fn a_resumed_session_is_no_full_handshake() {
    let server = TestServer::start(Manner::Good(200));
    let mut load = server.load(Extent::Count(5));
    load.concurrency = 1;
    let mut config = (**load.target.connector.config()).clone();
    config.resumption = Resumption::in_memory_sessions(16);
    load.target.connector = Arc::new(config).into();
    let tally = run(load);
    assert!(tally.failed_by("resumed") > 0);
    assert_eq!(tally.handshakes() + tally.failed_by("resumed"), 5, "{:?}", tally.failures);
}

#[test]
fn a_client_that_resumes_handshakes_in_full_once() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let server = TestServer::start(Manner::Good(200));
        let options = crate::TargetOptions { resume: true, version: Some(version), ..server.options() };
        let tally = run(Load { concurrency: 4, ..load(&options, Extent::Count(40)) });
        assert_eq!((tally.handshakes(), categories(&tally)), (40, vec![]));
        let (full, resumed) = server.seen();
        assert!(full <= 4 && full + resumed == 40, "{full} {resumed}");
    }
}

#[test]
fn a_server_that_does_not_resume_fails_clients_that_do() {
    let server = TestServer::start(Manner::Forgets);
    let options = crate::TargetOptions { resume: true, ..server.options() };
    let tally = run(Load { concurrency: 1, ..load(&options, Extent::Count(5)) });
    assert_eq!((tally.handshakes(), categories(&tally)), (1, vec![("not resumed", 4)]));
}

#[test]
fn a_request_must_be_answered_well() {
    for (status, handshakes, failures) in [(200, 4, vec![]), (502, 0, vec![("http: 502", 4)])] {
        let server = TestServer::start(Manner::Good(status));
        let options = crate::TargetOptions { request: true, ..server.options() };
        let tally = run(load(&options, Extent::Count(4)));
        assert_eq!((tally.handshakes(), categories(&tally)), (handshakes, failures));
    }
}

#[test]
fn what_is_broken_off_is_neither_success_nor_failure() {
    let server = TestServer::start(Manner::Silent);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tally = runtime.block_on(async {
        let mut running = server.load(Extent::Count(1000)).start().unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        running.abandon();
        running.finished().await.unwrap();
        running.tally().clone()
    });
    assert_eq!((tally.handshakes(), tally.failed_count(), tally.abandoned()), (0, 0, 8));
}

#[test]
fn no_port_is_left_waiting() {
    let server = TestServer::start(Manner::Good(200));
    let tally = run(server.load(Extent::Count(50)));
    assert_eq!(tally.handshakes(), 50);
    let port = format!(":{:04X}", server.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let waiting = table.lines().filter(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.len() > 3 && (fields[1].ends_with(&port) || fields[2].ends_with(&port)) && fields[3] == "06"
    });
    assert_eq!(waiting.count(), 0);
}
