//! Peers that break the rules harm themselves only.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use keycore_wire::frame::{MAX_FRAME, MAX_HELLO_FRAME};
use keycore_wire::{ActivateCluster, InitializeCluster, Login, Ping, RefusalCode, Secret};

use crate::fixture::Daemon;
use crate::peer::{framed, request};

/// Marsaglia's xorshift64: the same attack each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

#[test]
fn lengths_out_of_bounds_end_the_connection_at_once() {
    let daemon = Daemon::start("replicas = 1");
    let mut witness = daemon.connect(0).greet();
    let too_long_for_a_hello = u32::try_from(MAX_HELLO_FRAME - 3).unwrap();
    for length in [0, 4, too_long_for_a_hello, u32::MAX] {
        let mut peer = daemon.connect(0);
        peer.stream.write_all(&length.to_be_bytes()).unwrap();
        assert!(peer.gets_shown_the_door(), "{length} before the hello");
    }
    let too_long = u32::try_from(MAX_FRAME - 3).unwrap();
    for length in [0, 4, too_long, u32::MAX] {
        let mut peer = daemon.connect(0).greet();
        peer.stream.write_all(&length.to_be_bytes()).unwrap();
        assert!(peer.gets_shown_the_door(), "{length} after the hello");
    }
    witness.ping();
}

#[test]
fn whoever_does_not_begin_with_a_hello_is_refused_and_closed() {
    let daemon = Daemon::start("replicas = 1");
    let mut peer = daemon.connect(0);
    peer.stream.write_all(&request(9, &Ping)).unwrap();
    peer.expect_refusal(RefusalCode::HelloExpected);
    assert!(peer.gets_shown_the_door());

    let mut browser = daemon.connect(0);
    browser.stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(browser.gets_shown_the_door());
}

#[test]
fn ten_thousand_random_frames_keep_nobody_waiting() {
    const FRAMES: usize = 10_000;
    let daemon = Daemon::start("replicas = 1");
    let mut attacker = daemon.connect(0).greet();
    let mut victim = daemon.connect(0).greet();
    let mut random = Random(0x5eed_1e55_0dd5_eed5);
    let mut worst = Duration::ZERO;
    for batch in 0..FRAMES / 100 {
        for id in 0..100_u32 {
            let length = 1 + random.below(if id % 50 == 0 { 4000 } else { 60 });
            let mut body = random.bytes(length);
            // Opcodes that exist, half of the time.
            if id % 2 == 0 {
                body[0] = [1, 2, 3, 0x10, 0x11, 0x12, 0x20, 0x30, 0x33, 0x40, 0x41, 0x42][random.below(12)];
            }
            attacker.stream.write_all(&framed(id, &body)).unwrap();
        }
        let asked = Instant::now();
        victim.ping();
        worst = worst.max(asked.elapsed());
        for _ in 0..100 {
            assert!(attacker.receive().unwrap().is_some(), "batch {batch}: a bad body costs the connection");
        }
    }
    assert!(worst < Duration::from_secs(1), "a ping took {worst:?}");
}

#[test]
fn garbage_streams_and_torn_connections_leave_no_trace() {
    let daemon = Daemon::start("replicas = 1");
    let before = daemon.replica_pid(0);
    let mut witness = daemon.connect(0).greet();
    let mut random = Random(42);
    for round in 0..300 {
        let mut peer = daemon.connect(0);
        if round % 2 == 0 {
            peer = peer.greet();
        }
        let count = random.below(3000);
        // The engine may close before all is written.
        let _refused = peer.stream.write_all(&random.bytes(count));
        drop(peer);
        witness.ping();
    }
    assert_eq!(daemon.replica_pid(0), before);
}

#[test]
fn a_peer_that_takes_no_replies_is_stopped_and_the_others_served() {
    let daemon = Daemon::start("replicas = 1");
    let mut deaf = daemon.connect(0).greet();
    deaf.stream.set_nonblocking(true).unwrap();
    let mut victim = daemon.connect(0).greet();
    let pings: Vec<u8> = (0..1000).flat_map(|id| request(id, &Ping)).collect();
    let mut sent = 0;
    let mut stuck_since: Option<Instant> = None;
    // Stuck for half a second: the engine has stopped reading.
    while stuck_since.is_none_or(|since| since.elapsed() < Duration::from_millis(500)) {
        match deaf.stream.write(&pings) {
            Ok(count) => {
                sent += count;
                stuck_since = None;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stuck_since.get_or_insert_with(Instant::now);
                victim.ping();
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 16 << 20, "the engine swallows what it can't answer");
    }
    victim.ping();
}

#[test]
fn a_crowd_of_one_party_waits_for_its_share_and_none_of_it_is_forgotten() {
    const CROWD: usize = 150;
    const PINGS: u32 = 60;
    let daemon = Daemon::start("replicas = 1");
    let mut admin = daemon.connect(0).greet();
    admin.call(&InitializeCluster).unwrap();
    let password = || Secret::new(b"a password of a test".to_vec());
    admin.call(&ActivateCluster { admin: "admin".parse().unwrap(), password: password() }).unwrap();
    admin.call(&Login { user: "admin".parse().unwrap(), password: password() }).unwrap();
    // Nobody is logged in on these, so they are one party, and the admin is another.
    let mut crowd: Vec<_> = (0..CROWD).map(|_| daemon.connect(0).greet()).collect();
    let pings: Vec<u8> = (0..PINGS).flat_map(|id| request(id, &Ping)).collect();
    for peer in &mut crowd {
        peer.stream.write_all(&pings).unwrap();
    }
    admin.stream.write_all(&pings).unwrap();
    for peer in crowd.iter_mut().chain([&mut admin]) {
        for id in 0..PINGS {
            assert_eq!(peer.receive().unwrap().unwrap().0, id);
        }
    }
}

#[test]
fn a_hello_has_five_seconds() {
    let daemon = Daemon::start("replicas = 1");
    let mut idle = daemon.connect(0).greet();
    let (silent, mut trickling) = (daemon.connect(0), daemon.connect(0));
    trickling.stream.write_all(&[0, 0, 0, 20, 0]).unwrap();
    let since = Instant::now();
    assert!(silent.gets_shown_the_door());
    assert!(trickling.gets_shown_the_door());
    assert!((4..10).contains(&since.elapsed().as_secs()), "after {:?}", since.elapsed());
    idle.ping();
}
