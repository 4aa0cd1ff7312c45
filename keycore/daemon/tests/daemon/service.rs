//! The socket as a well-behaved client sees it.

use std::io::Write;

use keycore_wire::{
    ActivateCluster, ClusterInfo, InitializeCluster, Login, Ping, RefusalCode, ReplyError, Secret, UserName,
    decode_reply,
};

use crate::fixture::Daemon;
use crate::peer::{Peer, request};

/// A replica of a cluster that takes logins, so that each costs a password hash.
fn start_active(config: &str) -> Daemon {
    let daemon = Daemon::start(&format!("replicas = 1\n{config}"));
    let mut peer = daemon.connect(0).greet();
    peer.call(&InitializeCluster).unwrap();
    let (admin, password) = ("admin".parse().unwrap(), Secret::new(b"a password of a test".to_vec()));
    peer.call(&ActivateCluster { admin, password }).unwrap();
    daemon
}

fn wrong_login() -> Login {
    Login { user: "nobody".parse::<UserName>().unwrap(), password: Secret::new(b"wrong password".to_vec()) }
}

#[test]
fn pipelined_requests_are_all_answered_whatever_their_number() {
    let daemon = Daemon::start("replicas = 1\nmax-in-flight = 4");
    let mut peer = daemon.connect(0).greet();
    let count = 500;
    let mut bytes = Vec::new();
    for id in 0..count {
        bytes.extend(if id % 5 == 0 { request(id, &ClusterInfo) } else { request(id, &Ping) });
    }
    peer.stream.write_all(&bytes).unwrap();
    let mut answered: Vec<u32> = (0..count).map(|_| peer.receive().unwrap().unwrap().0).collect();
    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..count));
}

#[test]
fn a_client_that_stops_sending_still_gets_its_answers() {
    let daemon = start_active("");
    let mut peer = daemon.connect(0).greet();
    let id = peer.send(&wrong_login()).unwrap();
    peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(peer.receive().unwrap().unwrap().0, id);
    assert!(peer.gets_shown_the_door());
}

#[test]
fn slow_requests_hold_up_nobody_and_a_reused_slot_gets_no_foreign_answer() {
    let daemon = start_active("max-queue = 64");
    let mut other = daemon.connect(0).greet();
    for _ in 0..5 {
        let mut guesser = daemon.connect(0).greet();
        for _ in 0..20 {
            guesser.send(&wrong_login()).unwrap();
        }
        other.ping();
        drop(guesser);
        // Most likely in the slot of the one that left, whose jobs are still running.
        let mut next = daemon.connect(0).greet();
        for _ in 0..20 {
            next.ping();
        }
    }
}

#[test]
fn a_full_queue_refuses_instead_of_growing() {
    let daemon = start_active("max-queue = 1");
    let mut peer = daemon.connect(0).greet();
    for _ in 0..30 {
        peer.send(&wrong_login()).unwrap();
    }
    let mut overloaded = 0;
    for _ in 0..30 {
        let (_, body) = peer.receive().unwrap().unwrap();
        match decode_reply::<Login>(&body) {
            Err(ReplyError::Refused(refusal)) if refusal.code == RefusalCode::Overloaded => overloaded += 1,
            Err(ReplyError::Refused(_)) => {}
            other => panic!("logged in? {:?}", other.is_ok()),
        }
    }
    assert!((1..30).contains(&overloaded), "{overloaded} of 30 refused");
    peer.ping();
}

#[test]
fn connections_above_the_limit_are_closed_until_one_leaves() {
    let daemon = Daemon::start("replicas = 1\nmax-connections = 3");
    let mut kept: Vec<_> = (0..3).map(|_| daemon.connect(0).greet()).collect();
    assert!(daemon.connect(0).gets_shown_the_door());
    kept.iter_mut().for_each(Peer::ping);
    kept.pop();
    crate::fixture::await_some("a place to be free", || {
        Peer::connect(&daemon.socket(0)).ok()?.try_hello().ok()
    });
}

#[test]
fn the_clients_library_gets_along_with_it() {
    use keycore_client::{Endpoint, blocking::Client};

    let daemon = Daemon::start("");
    let endpoints = [0, 1].map(|index| Endpoint::Unix(daemon.socket(index)));
    let mut client = Client::connect(&endpoints, crate::fixture::PATIENCE).unwrap();
    assert_eq!(client.hello().replica, 0);
    client.call(&Ping).unwrap();
}
