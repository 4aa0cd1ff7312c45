use std::sync::Arc;

use super::{Chooser, Wish};
use crate::config::{Config, UpstreamSettings};
use crate::upstream::group::ServerGroup;

fn settings(keys: &str, servers: usize) -> UpstreamSettings {
    let urls: Vec<_> = (0..servers).map(|at| format!("\"http://10.0.0.{at}\"")).collect();
    let text = format!("[[upstream]]\nname = \"a\"\nservers = [{}]\n{keys}", urls.join(", "));
    Config::parse(&text).unwrap().upstreams.remove(0)
}

fn group(keys: &str, servers: usize) -> Arc<ServerGroup> {
    ServerGroup::of(&settings(keys, servers), None).unwrap()
}

fn counts(group: &ServerGroup, requests: u64, wish: impl Fn(u64) -> Wish, busy: &[u32]) -> Vec<u32> {
    let chooser = Chooser::new(group);
    let mut counts = vec![0; group.members.len()];
    for request in 0..requests {
        counts[chooser.choose(group, wish(request), &[], |at| busy[at]).unwrap()] += 1;
    }
    counts
}

fn any(_: u64) -> Wish {
    Wish::default()
}

fn hashed(request: u64) -> Wish {
    Wish { hash: Some(super::mix(request)), stuck_to: None }
}

fn eject(group: &ServerGroup, at: usize) {
    for _ in 0..5 {
        group.members[at].server.health.failed();
    }
    assert!(!group.members[at].server.health.is_up());
}

#[tokio::test]
async fn round_robin_keeps_the_weights_and_spreads_them() {
    let group = group("balance = \"round-robin\"\nweights = [2, 1, 1]", 3);
    assert_eq!(counts(&group, 400, any, &[0; 3]), [200, 100, 100]);
    let chooser = Chooser::new(&group);
    let order: Vec<_> =
        (0..4).map(|_| chooser.choose(&group, Wish::default(), &[], |_| 0).unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 0]);
}

#[tokio::test]
async fn least_connections_goes_by_what_is_in_flight_for_the_weight() {
    let group = group("balance = \"least-connections\"\nweights = [1, 4, 1]", 3);
    assert_eq!(counts(&group, 10, any, &[2, 3, 2]), [0, 10, 0]);
    assert_eq!(counts(&group, 10, any, &[1, 11, 0]), [0, 0, 10]);
    // Among equals by weight.
    assert_eq!(counts(&group, 6, any, &[0, 3, 0]), [1, 4, 1]);
}

#[tokio::test]
async fn power_of_two_avoids_the_busiest_and_keeps_the_weights() {
    let group = group("weights = [1, 1, 8]", 3);
    let spread = counts(&group, 10_000, any, &[0, 0, 7]);
    assert!(spread[0] > 800 && spread[1] > 800 && spread[2] > 5000, "{spread:?}");
    let spread = counts(&group, 10_000, any, &[0, 0, 1000]);
    assert_eq!(spread[2], 0, "never the better one of two: {spread:?}");
}

#[tokio::test]
async fn hashing_moves_only_what_a_lost_server_had() {
    let group = group("balance = \"hash\"\nweights = [1, 1, 2]", 3);
    let spread = counts(&group, 10_000, hashed, &[0; 3]);
    assert!((2200..2800).contains(&spread[0]) && (4700..5300).contains(&spread[2]), "{spread:?}");
    let chooser = Chooser::new(&group);
    let choose = |request| chooser.choose(&group, hashed(request), &[], |_| 0).unwrap();
    let before: Vec<_> = (0..1000).map(choose).collect();
    eject(&group, 1);
    for (request, at) in (0..).zip(before) {
        let now = choose(request);
        assert!(now != 1 && (at == 1 || now == at), "{request}: {at} {now}");
    }
}

#[tokio::test]
async fn hashing_passes_over_a_server_with_far_more_than_its_share() {
    let group = group("balance = \"hash\"", 4);
    let favourite = |_| Wish { hash: Some(7), stuck_to: None };
    let at = counts(&group, 1, favourite, &[0; 4]).iter().position(|&count| count == 1).unwrap();
    let mut busy = [10; 4];
    busy[at] = 12;
    assert_eq!(counts(&group, 5, favourite, &busy)[at], 5);
    busy[at] = 100;
    assert_eq!(counts(&group, 5, favourite, &busy)[at], 0);
}

#[tokio::test]
async fn an_ejected_server_gets_nothing_unless_all_are() {
    for balance in ["round-robin", "least-connections", "power-of-two", "hash"] {
        let group = group(&format!("balance = \"{balance}\""), 3);
        eject(&group, 0);
        let spread = counts(&group, 300, hashed, &[0; 3]);
        assert!(spread[0] == 0 && spread[1] > 0 && spread[2] > 0, "{balance}: {spread:?}");
        let stuck = |_| Wish { hash: Some(1), stuck_to: Some(0) };
        assert_eq!(counts(&group, 3, stuck, &[0; 3])[0], 0, "{balance}");
        eject(&group, 1);
        eject(&group, 2);
        assert_eq!(counts(&group, 300, hashed, &[0; 3]).iter().sum::<u32>(), 300, "{balance}");
        assert_eq!(counts(&group, 3, stuck, &[0; 3])[0], 3, "{balance}");
        let chooser = Chooser::new(&group);
        assert_eq!(chooser.choose(&group, Wish::default(), &[2, 0], |_| 0), Some(1), "{balance}");
        assert_eq!(chooser.choose(&group, Wish::default(), &[2, 0, 1], |_| 0), None, "{balance}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_gets_nothing_even_if_all_are() {
    for servers in 1..=3 {
        let group = group("", servers);
        let chooser = Chooser::new(&group);
        for at in 0..servers {
            assert!(chooser.choose(&group, Wish::default(), &[], |_| 0).is_some());
            group.members[at].server.health.went_down();
            for _ in 0..20 {
                let chosen = chooser.choose(&group, Wish { hash: None, stuck_to: Some(0) }, &[], |_| 0);
                assert!(chosen.is_none_or(|chosen| chosen > at), "{chosen:?}");
            }
        }
        assert_eq!(chooser.choose(&group, Wish::default(), &[], |_| 0), None);
    }
}

#[tokio::test]
async fn a_reload_keeps_what_it_does_not_change() {
    let before = group("", 3);
    eject(&before, 1);
    let after = ServerGroup::of(&settings("weights = [1, 2, 3, 4]", 4), Some(&before)).unwrap();
    assert!(!after.members[1].server.health.is_up(), "the same server goes on");
    assert_eq!(after.members[1].weight, 2);
    let other = ServerGroup::of(&settings("max-pending = 1", 3), Some(&before)).unwrap();
    assert!(other.members[1].server.health.is_up(), "another way to connect is another server");
}
