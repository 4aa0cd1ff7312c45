//! Changing to custodians: what unseals the cluster stays until the new shares are shown.

use core::time::Duration;
use std::sync::atomic::Ordering;

use keycore_audit::Outcome;
use keycore_backup::{Share, SharePurpose};
use keycore_engine::{OpenError, UnsealError};
use keycore_store::Kind;
use keycore_wire::{
    Attributes, ChangeUnseal, ClusterInfo, ClusterState, ClusterStatus, ConfirmCustodians, KeyAlgorithm,
    ListKeys, PrepareCustodians, RefusalCode, RotateClusterKey, Secret, UnsealCluster, UnsealMethod,
};

use crate::harness::{Client, Replica, World};

const SECRET: [u8; 32] = [7; 32];
const PREPARED: Kind = Kind(50);
const TWO_OF_THREE: UnsealMethod = UnsealMethod::Custodians { needed: 2, of: 3 };

fn prepare(client: &mut Client) -> Vec<Secret> {
    let prepared = client.call(&PrepareCustodians { needed: 2, of: 3 }).unwrap();
    assert_eq!(prepared.shares.len(), 3);
    prepared.shares
}

fn confirmation(shares: &[Secret]) -> ConfirmCustodians {
    ConfirmCustodians { shares: shares.iter().map(Secret::duplicate).collect() }
}

fn method(client: &mut Client) -> UnsealMethod {
    client.call(&ClusterInfo).unwrap().unseal.unwrap().method
}

/// A replica that starts, and is given these shares.
fn unsealed_by(world: &World, number: u16, shares: &[Secret]) -> (Replica, Option<ClusterStatus>) {
    let replica = world.unsealed_by(number, None).unwrap();
    let mut client = replica.client();
    let told = shares.iter().map(|share| client.call(&UnsealCluster { part: share.duplicate() }));
    let told = told.last().unwrap().ok();
    (replica, told)
}

fn tidy(replica: &Replica) {
    replica.engine.tidy(replica.now()).unwrap();
}

#[test]
fn what_unseals_stays_until_the_shares_are_shown_and_ends_then() {
    let (world, first) = World::active();
    let second = world.replica(1);
    first.client_of("web").generate(KeyAlgorithm::P256, Attributes::SIGN, "key");
    let mut root = first.client_of("root");
    let shares = prepare(&mut root);
    assert_eq!(method(&mut root), UnsealMethod::Passphrase);
    world.unsealed_by(2, Some(&SECRET)).unwrap();
    let (_, told) = unsealed_by(&world, 2, &shares[..2]);
    assert!(told.is_none(), "they open nothing yet");

    // On another replica, by whichever two, with the rotation of a key in between.
    root.call(&RotateClusterKey).unwrap();
    while first.engine.reseal(first.now()).unwrap() != keycore_engine::Resealed::Complete {}
    world.pass(Duration::from_secs(11));
    tidy(&first);
    second.follow();
    let mut there = second.client_of("root");
    let status = there.call(&confirmation(&shares[1..])).unwrap();
    assert_eq!(status.unseal.unwrap().method, TWO_OF_THREE);
    assert!(world.store().scan(PREPARED, None, None, 1).unwrap().is_empty());
    first.follow();
    first.client_of("web").generate(KeyAlgorithm::P256, Attributes::SIGN, "after");
    let old = world.unsealed_by(2, Some(&SECRET)).unwrap();
    assert_eq!(old.engine.cluster_state(), ClusterState::Sealed);
    let (unsealed, told) = unsealed_by(&world, 3, &shares[..2]);
    assert_eq!(told.unwrap().state, ClusterState::Active);
    assert_eq!(unsealed.client_of("web").call(&ListKeys { after: None, limit: 9 }).unwrap().keys.len(), 2);

    let told = |replica: &Replica, what: &str| {
        let lines =
            replica.audit.map(&replica.engine, |entry| format!("{} {}", entry.operation, entry.detail));
        assert!(lines.iter().any(|line| line == what), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("hsm-unseal-share")), "{lines:?}");
    };
    told(&first, "PrepareCustodians 2 of 3 custodians");
    told(&second, "ConfirmCustodians 2 of 3 custodians");
}

/// Whose answer was lost says it again.
#[test]
fn what_is_confirmed_can_be_confirmed_again_and_changes_nothing() {
    let (world, first) = World::active();
    let mut root = first.client_of("root");
    let shares = prepare(&mut root);
    root.call(&confirmation(&shares)).unwrap();
    let before = world.store().revision().unwrap();
    let mut there = unsealed_by(&world, 1, &shares[1..]).0.client_of("root");
    let after_login = world.store().revision().unwrap();
    for client in [&mut root, &mut there] {
        assert_eq!(client.call(&confirmation(&shares[..2])).unwrap().state, ClusterState::Active);
    }
    assert_eq!(world.store().revision().unwrap(), after_login);
    assert!(after_login >= before);
    assert_eq!(root.refused(&confirmation(&[shares[0].duplicate()])), RefusalCode::WrongUnsealPart);
}

#[test]
fn only_the_shares_of_the_last_preparation_confirm_it_and_only_all_true_ones() {
    let (world, first) = World::active();
    let mut root = first.client_of("root");
    let replaced = prepare(&mut root);
    let shares = prepare(&mut root);
    assert_eq!(root.refused(&confirmation(&replaced)), RefusalCode::WrongClusterState);
    let ours = Share::parse(SharePurpose::Unseal, shares[0].expose()).unwrap();
    let forged = Share::split(SharePurpose::Unseal, ours.of(), &[1; 32], 2, 3).unwrap();
    let forged: Vec<_> = forged.iter().map(|share| Secret::new(share.as_bytes().to_vec())).collect();
    let of_four = Share::split(SharePurpose::Unseal, ours.of(), &[1; 32], 2, 4).unwrap();
    let strange = Secret::new(of_four[3].as_bytes().to_vec());
    let copy = |at: usize| shares[at].duplicate();
    for wrong in [
        vec![copy(0)],
        vec![copy(0), copy(0)],
        vec![copy(0), replaced[1].duplicate()],
        vec![copy(0), forged[1].duplicate()],
        vec![copy(0), copy(1), forged[2].duplicate()],
        vec![copy(0), strange],
        forged,
        vec![copy(0), Secret::new(b"hsm-unseal-share-1-aaaa".to_vec())],
        vec![copy(0), Secret::new(vec![b'x'; 100_000])],
    ] {
        let wrong = ConfirmCustodians { shares: wrong };
        assert_eq!(root.refused(&wrong), RefusalCode::WrongUnsealPart);
    }
    for malformed in [Vec::new(), (0..17).map(|_| copy(0)).collect()] {
        assert_eq!(root.refused(&ConfirmCustodians { shares: malformed }), RefusalCode::Malformed);
    }
    for (needed, of) in [(1, 1), (3, 2), (2, 17), (0, 0)] {
        assert_eq!(root.refused(&PrepareCustodians { needed, of }), RefusalCode::Malformed);
    }
    world.unsealed_by(1, Some(&SECRET)).unwrap();
    root.call(&confirmation(&shares)).unwrap();
}

#[test]
fn a_preparation_that_nobody_confirms_ends_after_a_day_or_with_another_change() {
    let (world, first) = World::active();
    let mut root = first.client_of("root");
    let shares = prepare(&mut root);
    let words = b"correct horse battery staple";
    let change = ChangeUnseal { method: UnsealMethod::Passphrase, secret: Some(Secret::new(words.to_vec())) };
    root.call(&change).unwrap();
    world.pass(Duration::from_secs(11));
    tidy(&first);
    assert_eq!(root.refused(&confirmation(&shares)), RefusalCode::WrongClusterState);

    let shares = prepare(&mut root);
    let day = Duration::from_hours(24);
    world.pass(day - Duration::from_secs(1));
    let mut root = first.client_of("root");
    tidy(&first);
    assert_eq!(world.store().scan(PREPARED, None, None, 9).unwrap().len(), 1);
    world.pass(Duration::from_secs(1));
    assert_eq!(root.refused(&confirmation(&shares)), RefusalCode::WrongClusterState);
    tidy(&first);
    assert!(world.store().scan(PREPARED, None, None, 9).unwrap().is_empty());
    let old = world.unsealed_by(1, Some(&SECRET)).err().unwrap();
    assert!(matches!(old, OpenError::Unseal(UnsealError::WrongSecret)), "{old}");
    world.unsealed_by(1, Some(words)).unwrap();
}

/// Replicas that run have to be told first of the change before.
#[test]
fn a_confirmation_waits_until_replicas_know_of_the_change_before() {
    let (world, first) = World::active();
    let mut root = first.client_of("root");
    let shares = prepare(&mut root);
    root.call(&RotateClusterKey).unwrap();
    assert_eq!(root.refused(&confirmation(&shares)), RefusalCode::Overloaded);
    world.pass(Duration::from_secs(11));
    tidy(&first);
    root.call(&confirmation(&shares)).unwrap();
}

#[test]
fn an_audit_log_that_fails_keeps_shares_from_nobody_who_needs_them() {
    let (world, first) = World::active();
    let mut root = first.client_of("root");
    // The record before it is written; the one that tells how it ended is not.
    let break_after = |syncs| first.audit.breaks_after.store(syncs, Ordering::SeqCst);
    let repair = || {
        first.audit.broken.store(false, Ordering::SeqCst);
        first.engine.flush_audit().unwrap();
    };
    break_after(1);
    assert_eq!(root.refused(&PrepareCustodians { needed: 2, of: 3 }), RefusalCode::AuditUnavailable);
    repair();
    world.unsealed_by(1, Some(&SECRET)).unwrap();

    let shares = prepare(&mut root);
    break_after(1);
    assert_eq!(root.refused(&confirmation(&shares)), RefusalCode::AuditUnavailable);
    repair();
    root.call(&confirmation(&shares)).unwrap();
    let (_, told) = unsealed_by(&world, 1, &shares[1..]);
    assert_eq!(told.unwrap().state, ClusterState::Active);
    let outcomes = first.audit.map(&first.engine, |entry| (entry.operation.to_owned(), entry.outcome));
    for operation in ["PrepareCustodians", "ConfirmCustodians"] {
        for outcome in [Outcome::Begun, Outcome::Done] {
            assert!(outcomes.contains(&(operation.to_owned(), outcome)), "{outcomes:?}");
        }
    }
}
