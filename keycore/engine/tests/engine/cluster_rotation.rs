//! Rotating the cluster key and changing what unseals it, on replicas that go on meanwhile.

use core::time::Duration;

use keycore_engine::{LeftBehind, OpenError, Resealed, UnsealError};
use keycore_store::{Change, Kind, RecordId, Store};
use keycore_wire::{
    Attributes, ChangeUnseal, ClusterInfo, InitializeCluster, KeyAlgorithm, KeySelector, ListKeys, Ping,
    RefusalCode, Resume, RotateClusterKey, Secret, Sign, SignatureScheme, UnsealMethod, ZeroizeCluster,
};

use crate::harness::{Client, PASSWORD, Replica, World};
use crate::identity::{Ca, csr};
use crate::key_lives::session_key;

const CLUSTER: Kind = Kind(1);
const ROTATION: Kind = Kind(49);
const RESTORED: Kind = Kind(44);

/// Which generations the records say that they were sealed with.
fn generations(store: &mut dyn Store) -> Vec<u32> {
    let sealed = store.walk(None, 10_000).unwrap();
    let of = |sealed: &[u8]| match sealed[0] {
        1 => 1,
        _ => u32::from_be_bytes(sealed[1..5].try_into().unwrap()),
    };
    let kept = sealed.iter().filter(|(kind, _)| *kind != CLUSTER);
    let mut generations: Vec<_> = kept.map(|(_, record)| of(&record.sealed)).collect();
    generations.sort_unstable();
    generations.dedup();
    generations
}

fn make_keys(replica: &Replica, labels: core::ops::Range<usize>) {
    let mut web = replica.client_of("web");
    for n in labels {
        web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("key-{n}"));
    }
}

/// Signs with every key of the user; how many there are.
fn sign_with_all(client: &mut Client) -> usize {
    let (mut count, mut after) = (0, None);
    loop {
        let page = client.call(&ListKeys { after, limit: 100 }).unwrap();
        for key in &page.keys {
            let scheme = SignatureScheme::Ed25519;
            client.call(&Sign { key: key.id, scheme, message: b"message" }).unwrap();
            count += 1;
        }
        after = page.keys.last().map(|key| key.id);
        if !page.more {
            return count;
        }
    }
}

fn reseal(replica: &Replica) -> Resealed {
    replica.engine.reseal(replica.now()).unwrap()
}

fn finish(replica: &Replica) {
    for _ in 0..1000 {
        match reseal(replica) {
            Resealed::Batch => {}
            Resealed::Complete => return,
            Resealed::Idle => panic!("it is not its turn"),
        }
    }
    panic!("it does not end");
}

fn generation(replica: &Replica) -> u32 {
    replica.client().call(&ClusterInfo).unwrap().unseal.unwrap().generation.unwrap()
}

#[test]
fn everything_is_sealed_anew_while_two_replicas_go_on() {
    let (world, first) = World::active();
    let second = world.replica(1);
    make_keys(&first, 0..200);
    let (mut here, mut there) = (first.client_of("web"), second.client_of("web"));
    assert_eq!(generations(&mut *world.store()), [1]);

    let mut root = first.client_of("root");
    let status = root.call(&RotateClusterKey).unwrap().unseal.unwrap();
    let progress = status.resealing.unwrap();
    assert_eq!((status.generation, progress.done), (Some(2), 0));
    assert_eq!(root.refused(&RotateClusterKey), RefusalCode::WrongClusterState);
    // The sibling has not followed, and writes and reads with the new ring all the same.
    make_keys(&second, 200..210);
    assert_eq!(generations(&mut *world.store()), [1, 2]);
    let mut batches = 0;
    while reseal(&first) == Resealed::Batch {
        batches += 1;
        assert_eq!(reseal(&second), Resealed::Idle, "one at a time");
        assert_eq!(sign_with_all(&mut here), 210 + batches - 1);
        assert_eq!(sign_with_all(&mut there), 210 + batches - 1);
        make_keys(if batches % 2 == 0 { &first } else { &second }, 1000 + batches..1001 + batches);
        let told = first.client().call(&ClusterInfo).unwrap().unseal.unwrap().resealing.unwrap();
        assert!(told.done <= told.total && told.total == progress.total, "{told:?}");
    }
    assert!(batches > 3, "{batches} batches");
    assert_eq!(generations(&mut *world.store()), [2]);
    assert!(world.store().scan(ROTATION, None, None, 1).unwrap().is_empty());
    let told = first.audit.map(&first.engine, |entry| format!("{} {}", entry.operation, entry.detail));
    let complete = |line: &String| line.starts_with("ClusterKeyRotated generation 2 of the cluster key");
    assert!(told.iter().any(complete), "{told:?}");

    // Names are found, on all replicas, old ones and new ones, and by one that starts now.
    second.follow();
    for replica in [&first, &second, &world.replica(2)] {
        assert_eq!(generation(replica), 2);
        let mut web = replica.client_of("web");
        assert_eq!(sign_with_all(&mut web), 210 + batches);
        let label = KeySelector::Label("key-7".parse().unwrap());
        web.call(&keycore_wire::FindKey { key: label }).unwrap();
    }
    assert_eq!(reseal(&first), Resealed::Idle);
    root.call(&RotateClusterKey).unwrap();
    finish(&first);
    assert_eq!(generations(&mut *world.store()), [3]);
}

#[test]
fn tokens_last_until_the_old_generation_is_dropped() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let old = first.client().login("web", PASSWORD).unwrap().token;
    let mut open = first.client_of("web");
    first.client_of("root").call(&RotateClusterKey).unwrap();
    let resume = |replica: &Replica, token: &keycore_wire::SessionToken| {
        let token = keycore_wire::SessionToken(token.0.duplicate());
        replica.client().call(&Resume { token }).map_err(|refusal| refusal.code)
    };
    // One of the new generation is good at once, on a replica that has not heard of it.
    let new = first.client().login("web", PASSWORD).unwrap().token;
    resume(&second, &new).unwrap();
    // What resuming gives is of the generation of what it took.
    let again = resume(&second, &old).unwrap().token;
    finish(&first);
    second.follow();
    for replica in [&first, &second] {
        for token in [&old, &again] {
            assert_eq!(resume(replica, token).unwrap_err(), RefusalCode::SessionEnded);
        }
        resume(replica, &new).unwrap();
    }
    // A connection that is logged in stays so.
    open.generate(KeyAlgorithm::P256, Attributes::SIGN, "after");
}

#[test]
fn another_replica_goes_on_where_a_dead_one_stopped() {
    let (world, first) = World::active();
    make_keys(&first, 0..100);
    first.client_of("root").call(&RotateClusterKey).unwrap();
    assert_eq!(reseal(&first), Resealed::Batch);
    drop(first);
    let second = world.replica(1);
    assert_eq!(reseal(&second), Resealed::Idle, "the first one may still be at it");
    world.pass(Duration::from_secs(11));
    finish(&second);
    assert_eq!(generations(&mut *world.store()), [2]);
    assert_eq!(sign_with_all(&mut second.client_of("web")), 100);
}

#[test]
fn a_damaged_record_keeps_the_old_generation_and_is_named() {
    let (world, replica) = World::active();
    make_keys(&replica, 0..3);
    let mut store = world.store();
    let secret = Kind(5);
    let damaged = store.scan(secret, None, None, 1).unwrap().remove(0);
    let mut sealed = damaged.sealed.clone();
    *sealed.last_mut().unwrap() ^= 1;
    let change = Change::Reseal { kind: secret, id: damaged.id, expect: damaged.version, sealed };
    let revision = store.revision().unwrap();
    store.commit(revision, &[change]).unwrap();
    replica.client_of("root").call(&RotateClusterKey).unwrap();
    let error = replica.engine.reseal(replica.now()).unwrap_err();
    assert!(error.contains("of kind 5 is damaged"), "{error}");
    assert!(generations(&mut *store).contains(&1));
}

#[test]
fn what_unseals_is_changed_on_replicas_that_go_on() {
    let (world, first) = World::active();
    let second = world.replica(1);
    make_keys(&first, 0..3);
    let mut root = first.client_of("root");
    let change = |method, secret: Option<&[u8]>| ChangeUnseal {
        method,
        secret: secret.map(|secret| Secret::new(secret.to_vec())),
    };
    let three_of_five = UnsealMethod::Custodians { needed: 3, of: 5 };
    for wrong in [
        change(UnsealMethod::Passphrase, None),
        change(three_of_five, Some(b"correct horse battery staple")),
        // They come in two steps: custodians.rs.
        change(three_of_five, None),
    ] {
        assert_eq!(root.refused(&wrong), RefusalCode::Malformed);
    }
    for unfit in [
        change(UnsealMethod::Secret, Some(b"correct horse battery staple, which is no key")),
        change(UnsealMethod::Passphrase, Some(b"too short")),
    ] {
        assert_eq!(root.refused(&unfit), RefusalCode::UnsealSecretUnfit);
    }
    let words = b"correct horse battery staple";
    root.call(&change(UnsealMethod::Passphrase, Some(words))).unwrap();
    assert_eq!(root.refused(&change(UnsealMethod::Passphrase, Some(words))), RefusalCode::Overloaded);
    assert_eq!(root.refused(&RotateClusterKey), RefusalCode::Overloaded);
    // Both go on; the second one is handed the new key, and so can follow a rotation.
    second.follow();
    make_keys(&second, 3..5);
    let tidy = |replica: &Replica| replica.engine.tidy(replica.now()).unwrap();
    tidy(&first);
    assert_eq!(world.store().scan(Kind(48), None, None, 9).unwrap().len(), 1);
    world.pass(Duration::from_secs(10));
    tidy(&first);
    assert!(world.store().scan(Kind(48), None, None, 9).unwrap().is_empty());
    let old = world.unsealed_by(2, Some(&[7; 32])).err().unwrap();
    assert!(matches!(old, OpenError::Unseal(UnsealError::WrongSecret)), "{old}");
    let third = world.unsealed_by(2, Some(words)).unwrap();
    root.call(&RotateClusterKey).unwrap();
    finish(&first);
    for replica in [&first, &second, &third] {
        assert_eq!(sign_with_all(&mut replica.client_of("web")), 5);
    }
    let told = first.audit.map(&first.engine, |entry| format!("{} {}", entry.operation, entry.detail));
    assert!(told.contains(&"ChangeUnseal passphrase".to_owned()), "{told:?}");
}

/// The handover is sealed with the new generation, which a replica that lags does not have.
#[test]
fn a_replica_that_lags_behind_a_rotation_is_not_left_behind_by_a_change_of_what_unseals() {
    let (world, first) = World::active();
    let second = world.replica(1);
    make_keys(&first, 0..1);
    let mut root = first.client_of("root");
    root.call(&RotateClusterKey).unwrap();
    let secret = || Some(Secret::new(b"correct horse battery staple".to_vec()));
    let change = || ChangeUnseal { method: UnsealMethod::Passphrase, secret: secret() };
    assert_eq!(root.refused(&change()), RefusalCode::Overloaded);
    finish(&first);
    assert_eq!(root.refused(&change()), RefusalCode::Overloaded, "the second one may not have followed yet");
    // Nobody is left behind by another rotation.
    root.call(&RotateClusterKey).unwrap();
    finish(&first);
    second.follow();
    world.pass(Duration::from_secs(10));
    first.engine.tidy(first.now()).unwrap();
    root.call(&change()).unwrap();
    second.follow();
    assert_eq!(sign_with_all(&mut second.client_of("web")), 1);
}

#[test]
fn what_keeps_the_reply_from_being_told_keeps_the_old_method() {
    let (world, first) = World::active();
    let mut root = first.client_of("root");
    let mut store = world.store();
    let garbage = |sealed| Change::Put {
        kind: RESTORED,
        id: RecordId([0; 16]),
        expect: None,
        sealed,
        index: Vec::new(),
        group: None,
    };
    let base = store.revision().unwrap();
    let expect = store.commit(base, &[garbage(vec![2; 64])]).unwrap();
    let secret = Some(Secret::new(b"correct horse battery staple".to_vec()));
    assert_eq!(
        root.refused(&ChangeUnseal { method: UnsealMethod::Passphrase, secret }),
        RefusalCode::Internal
    );
    let delete = Change::Delete { kind: RESTORED, id: RecordId([0; 16]), expect };
    store.commit(expect, &[delete]).unwrap();
    world.unsealed_by(1, Some(&[7; 32])).unwrap();
}

/// It would sign for users that were deleted and with keys that were, for as long as its process lives.
#[test]
fn a_replica_that_missed_the_handover_does_nothing_more() {
    let (world, first) = World::active();
    let second = world.replica(1);
    make_keys(&first, 0..1);
    let mut there = second.client_of("web");
    assert_eq!(sign_with_all(&mut there), 1);
    let key = there.call(&ListKeys { after: None, limit: 1 }).unwrap().keys[0].id;
    there.call(&session_key("of-a-session")).unwrap();
    let words = b"correct horse battery staple";
    let change = ChangeUnseal { method: UnsealMethod::Passphrase, secret: Some(Secret::new(words.to_vec())) };
    first.client_of("root").call(&change).unwrap();
    world.pass(Duration::from_secs(11));
    first.engine.tidy(first.now()).unwrap();
    assert_eq!(second.engine.left_behind(), None);
    let error = second.engine.follow(second.now()).unwrap_err().to_string();
    assert!(error.contains("start it anew"), "{error}");
    assert_eq!(second.engine.left_behind(), Some(&LeftBehind::MethodChanged));
    let sign = Sign { key, scheme: SignatureScheme::Ed25519, message: b"message" };
    assert_eq!(there.refused(&sign), RefusalCode::ShuttingDown);
    assert_eq!(there.refused(&ListKeys { after: None, limit: 1 }), RefusalCode::ShuttingDown);
    assert_eq!(second.client().login("web", PASSWORD).unwrap_err().code, RefusalCode::ShuttingDown);
    there.call(&Ping).unwrap();
    let told = second.audit.map(&second.engine, |entry| format!("{} {}", entry.operation, entry.detail));
    assert!(
        told.iter().any(|line| line.contains("was changed while this engine did not follow")),
        "{told:?}"
    );
    // Nor does it tidy up what it may know wrongly.
    world.pass(Duration::from_hours(13));
    let before = world.store().revision().unwrap();
    second.engine.tidy(second.now()).unwrap();
    assert_eq!(world.store().revision().unwrap(), before);
    first.engine.tidy(first.now()).unwrap();
    assert_ne!(world.store().revision().unwrap(), before);

    // Its process is started anew.
    let anew = world.unsealed_by(1, Some(words)).unwrap();
    assert_eq!(sign_with_all(&mut anew.client_of("web")), 1);
}

/// Nor would it know which generation seals, or whose certificate it shows.
#[test]
fn a_replica_that_was_left_behind_seals_nothing_anew_and_shows_no_certificate() {
    let (world, first) = World::active();
    let second = world.replica(1);
    make_keys(&first, 0..1);
    let mut root = first.client_of("root");
    let request = csr(&mut root);
    Ca::new().set(&mut root, &request).unwrap();
    root.call(&RotateClusterKey).unwrap();
    second.follow();
    assert!(second.engine.cluster_identity().is_some());
    finish(&first);
    world.pass(Duration::from_secs(11));
    first.engine.tidy(first.now()).unwrap();
    let secret = Some(Secret::new(b"correct horse battery staple".to_vec()));
    root.call(&ChangeUnseal { method: UnsealMethod::Passphrase, secret }).unwrap();
    world.pass(Duration::from_secs(11));
    first.engine.tidy(first.now()).unwrap();

    // It knows two generations: to it the rotation goes on, and is nobody's.
    assert!(second.engine.reseal(second.now()).is_err(), "it can't read the cluster's record any more");
    second.engine.follow(second.now()).unwrap_err();
    assert_eq!(second.engine.left_behind(), Some(&LeftBehind::MethodChanged));
    let before = world.store().revision().unwrap();
    for _ in 0..3 {
        assert_eq!(reseal(&second), Resealed::Idle);
        assert!(second.engine.cluster_identity().is_none());
    }
    assert_eq!(world.store().revision().unwrap(), before);
    assert!(first.engine.cluster_identity().is_some());
}

#[test]
fn a_replica_whose_cluster_was_replaced_while_it_stood_still_forgets_the_old_one() {
    let (world, first) = World::active();
    let second = world.replica(1);
    make_keys(&first, 0..1);
    let mut there = second.client_of("web");
    assert_eq!(sign_with_all(&mut there), 1);
    let cluster = first.client().call(&ClusterInfo).unwrap().cluster.unwrap();
    first.client_of("root").call(&ZeroizeCluster { cluster }).unwrap();
    world.replica(0).client().call(&InitializeCluster).unwrap();
    second.engine.follow(second.now()).unwrap_err();
    assert!(second.engine.is_zeroized());
    assert_eq!(there.refused(&ListKeys { after: None, limit: 1 }), RefusalCode::ShuttingDown);
}
