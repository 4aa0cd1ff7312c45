//! A sibling rotates the cluster key while an engine reads: at the worst moment, after it learned the keys.

use std::sync::{Arc, Mutex};

use keycore_engine::Resealed;
use keycore_store::Kind;
use keycore_wire::{
    ActivateCluster, ClusterState, InitializeBy, NewUnseal, Random, Role, RotateClusterKey, UnsealCluster,
    UnsealMethod, UserChangePassword,
};

use crate::harness::{PASSWORD, Replica, World, name, secret};
use crate::hooked::{Hook, Hooked, Then};

const CLUSTER: Kind = Kind(1);
const USER: Kind = Kind(2);

/// From the first to the last moment of a rotation.
fn rotate(replica: &Replica) {
    replica.client_of("root").call(&RotateClusterKey).unwrap();
    for _ in 0..100 {
        if replica.engine.reseal(replica.now()).unwrap() == Resealed::Complete {
            return;
        }
    }
    panic!("it does not end");
}

fn open(world: &World, hook: &Hook) -> Replica {
    let store = Box::new(Hooked { store: world.store(), hook: hook.clone() });
    world.open(store, 1, 7).unwrap()
}

#[test]
fn an_engine_starts_while_the_key_is_rotated() {
    let (world, first) = World::active();
    let hook = Hook::default();
    hook.once(USER, move || rotate(&first));
    let second = open(&world, &hook);
    assert!(hook.is_over());
    second.client_of("web");
}

#[test]
fn changes_are_followed_while_the_key_is_rotated() {
    let (world, first) = World::active();
    let hook = Hook::default();
    let second = open(&world, &hook);
    let new = "another horse battery";
    let change = UserChangePassword { name: Some(name("web")), current: None, new: secret(new) };
    first.client_of("root").call(&change).unwrap();
    hook.once(USER, move || rotate(&first));
    assert!(second.follow());
    assert!(hook.is_over());
    second.client().login("web", new).unwrap();
}

#[test]
fn an_engine_is_unsealed_while_the_key_is_rotated() {
    let world = World::new();
    let maker = world.unsealed_by(0, None).unwrap();
    let method = UnsealMethod::Custodians { needed: 2, of: 2 };
    let NewUnseal { shares, .. } = maker.client().call(&InitializeBy { method }).unwrap();
    maker.client().call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    maker.client_of("root").create_user("web", Role::CryptoUser).unwrap();
    let hook = Hook::default();
    let sealed = open(&world, &hook);
    assert_eq!(sealed.engine.cluster_state(), ClusterState::Sealed);
    let mut custodian = sealed.client();
    custodian.call(&UnsealCluster { part: shares[0].duplicate() }).unwrap();
    hook.once(USER, move || rotate(&maker));
    custodian.call(&UnsealCluster { part: shares[1].duplicate() }).unwrap();
    assert!(hook.is_over());
    sealed.client_of("web");
}

/// A session must not end, nor its keys be destroyed, because its user could not be read for a moment.
#[test]
fn nobody_is_missing_for_an_instant_while_the_key_is_rotated() {
    let (world, first) = World::active();
    let hook = Hook::default();
    let second = open(&world, &hook);
    let web = Arc::new(Mutex::new(second.client_of("web")));
    let still_logged_in =
        move || web.lock().unwrap().call(&Random { length: 1 }).map(|_| ()).map_err(|refusal| refusal.code);
    second.follow();
    // Changes the user's record, and no credential.
    first.client().login("web", "a wrong password").unwrap_err();

    let (mut rotated, looks) = (false, Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&looks);
    hook.set(move |kind| {
        if kind == USER && !rotated {
            rotate(&first);
            rotated = true;
        } else if kind == CLUSTER && rotated {
            // Between a try with the old keys and one with the new ones.
            seen.lock().unwrap().push(still_logged_in());
        }
        Ok(Then::Again)
    });
    assert!(second.follow());
    let looks = looks.lock().unwrap();
    assert!(looks.len() > 1 && looks.iter().all(|look| *look == Ok(())), "{looks:?}");
}
