//! What unseals a cluster, and what a sealed engine does until then.

use core::time::Duration;

use keycore_engine::{OpenError, UnsealError};
use keycore_store::{Change, Kind, RecordId, StoreError};
use keycore_wire::{
    ActivateCluster, Attributes, ClusterInfo, ClusterState, ClusterStatus, Hello, InitializeBy,
    InitializeCluster, KeyAlgorithm, ListKeys, Login, NewUnseal, Ping, RefusalCode, Resume, Role, Secret,
    SelfTest, UnsealCluster, UnsealMethod, UserList,
};

use crate::harness::{Client, PASSWORD, Replica, World, name, secret};
use crate::hooked::{Hook, Hooked, Then};

const USER: Kind = Kind(2);
/// What a cluster was restored from.
const RESTORED: Kind = Kind(44);
const TWO_OF_THREE: UnsealMethod = UnsealMethod::Custodians { needed: 2, of: 3 };

/// An active cluster of custodians, its shares, and the replica that made it.
fn of_custodians() -> (World, Replica, Vec<Secret>) {
    let world = World::new();
    let maker = world.unsealed_by(0, None).unwrap();
    let NewUnseal { status, shares } = maker.client().call(&InitializeBy { method: TWO_OF_THREE }).unwrap();
    assert_eq!((status.state, shares.len()), (ClusterState::Initialized, 3));
    maker.client().call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    maker.client_of("root").create_user("web", Role::CryptoUser).unwrap();
    (world, maker, shares)
}

/// A sealed replica of an active cluster.
pub(crate) fn sealed() -> (World, Replica) {
    let (world, _maker, _shares) = of_custodians();
    let sealed = world.unsealed_by(1, None).unwrap();
    (world, sealed)
}

fn give(client: &mut Client, part: &[u8]) -> Result<ClusterStatus, RefusalCode> {
    client.call(&UnsealCluster { part: Secret::new(part.to_vec()) }).map_err(|refusal| refusal.code)
}

fn given(status: &ClusterStatus) -> (ClusterState, u8) {
    (status.state, status.unseal.as_ref().unwrap().shares_given)
}

/// Nobody could open the cluster whose shares were not told.
#[test]
fn shares_are_given_although_the_status_can_t_be_read_once_there_is_a_cluster() {
    let world = World::new();
    let maker = world.unsealed_by(0, None).unwrap();
    let mut store = world.store();
    // What a backup left behind is read when there is a cluster key to read it with.
    let garbage = Change::Put {
        kind: RESTORED,
        id: RecordId([0; 16]),
        expect: None,
        sealed: vec![2; 64],
        index: Vec::new(),
        group: None,
    };
    let base = store.revision().unwrap();
    let expect = store.commit(base, &[garbage]).unwrap();
    let NewUnseal { status, shares } = maker.client().call(&InitializeBy { method: TWO_OF_THREE }).unwrap();
    assert_eq!((status.state, shares.len()), (ClusterState::Initialized, 3));
    assert!(status.cluster.is_some());
    let unseal = status.unseal.unwrap();
    assert_eq!((unseal.method, unseal.generation), (TWO_OF_THREE, Some(1)));
    assert_eq!(maker.client().refused(&ClusterInfo), RefusalCode::Internal);

    let delete = Change::Delete { kind: RESTORED, id: RecordId([0; 16]), expect };
    let base = store.revision().unwrap();
    store.commit(base, &[delete]).unwrap();
    let status = maker.client().call(&ClusterInfo).unwrap();
    assert_eq!(status.unseal.unwrap(), unseal, "as it was told");
}

#[test]
fn a_sealed_engine_says_what_it_is_and_does_nothing_else() {
    let (_world, sealed) = sealed();
    let mut stranger = sealed.stranger();
    let hello = stranger.call(&Hello::new("test")).unwrap();
    assert_eq!((hello.state, hello.cluster.is_some()), (ClusterState::Sealed, true));
    stranger.call(&Ping).unwrap();
    let status = stranger.call(&ClusterInfo).unwrap();
    assert_eq!((given(&status), status.users), ((ClusterState::Sealed, 0), 0));
    assert_eq!(status.unseal.unwrap().method, TWO_OF_THREE);
    assert_eq!(stranger.login("root", PASSWORD).unwrap_err().code, RefusalCode::Sealed);
    assert_eq!(stranger.refused(&InitializeCluster), RefusalCode::Sealed);
    assert_eq!(stranger.refused(&InitializeBy { method: TWO_OF_THREE }), RefusalCode::Sealed);
    let activate = ActivateCluster { admin: name("mallory"), password: secret(PASSWORD) };
    assert_eq!(stranger.refused(&activate), RefusalCode::Sealed);
    assert_eq!(stranger.refused(&UserList { after: None, limit: 1 }), RefusalCode::Sealed);
    assert_eq!(stranger.refused(&ListKeys { after: None, limit: 1 }), RefusalCode::Sealed);
    assert_eq!(stranger.refused(&SelfTest), RefusalCode::Sealed);
}

#[test]
fn any_two_of_three_shares_unseal_one_replica_and_only_that_one() {
    for [one, two] in [[0, 1], [2, 0], [1, 2]] {
        let (world, maker, shares) = of_custodians();
        let token = maker.client().login("web", PASSWORD).unwrap().token;
        let (first, second) = (world.unsealed_by(1, None).unwrap(), world.unsealed_by(2, None).unwrap());
        let mut client = first.client();
        let status = give(&mut client, shares[one].expose()).unwrap();
        assert_eq!(given(&status), (ClusterState::Sealed, 1));
        // Once more does not count twice.
        assert_eq!(given(&give(&mut client, shares[one].expose()).unwrap()), (ClusterState::Sealed, 1));
        let padded = [b" \n", shares[two].expose(), b"\n"].concat();
        assert_eq!(given(&give(&mut client, &padded).unwrap()), (ClusterState::Active, 0));
        assert_eq!(give(&mut client, shares[one].expose()), Err(RefusalCode::WrongClusterState));
        assert_eq!(second.client().call(&ClusterInfo).unwrap().state, ClusterState::Sealed);
        // The same cluster: users, sessions, keys.
        let mut web = first.client();
        web.call(&Resume { token }).unwrap();
        web.generate(KeyAlgorithm::P256, Attributes::SIGN, "key");
        assert_eq!(maker.client_of("web").call(&ListKeys { after: None, limit: 9 }).unwrap().keys.len(), 1);
    }
}

#[test]
fn shares_that_are_wrong_are_told_so_and_enough_of_them_are_wiped() {
    let (world, _maker, shares) = of_custodians();
    let (_other, _, others) = of_custodians();
    let replica = world.unsealed_by(1, None).unwrap();
    let mut client = replica.client();
    let mut typo = shares[0].expose().to_vec();
    typo[30] = if typo[30] == b'a' { b'b' } else { b'a' };
    for wrong in [&typo[..], b"", b"a passphrase of some length", others[0].expose(), &[b'x'; 4097]] {
        let refused = give(&mut client, wrong).unwrap_err();
        assert!(matches!(refused, RefusalCode::WrongUnsealPart | RefusalCode::Malformed), "{refused:?}");
        assert_eq!(given(&client.call(&ClusterInfo).unwrap()).1, 0);
    }
    // A share that its bearer forged, check and all.
    let ours =
        keycore_backup::Share::parse(keycore_backup::SharePurpose::Unseal, shares[0].expose()).unwrap();
    let forged =
        keycore_backup::Share::split(keycore_backup::SharePurpose::Unseal, ours.of(), &[1; 32], 2, 3)
            .unwrap();
    assert_eq!(given(&give(&mut client, forged[1].as_bytes()).unwrap()), (ClusterState::Sealed, 1));
    assert_eq!(give(&mut client, shares[0].expose()), Err(RefusalCode::WrongUnsealPart));
    assert_eq!(given(&client.call(&ClusterInfo).unwrap()), (ClusterState::Sealed, 0));
    give(&mut client, shares[0].expose()).unwrap();
    assert_eq!(given(&give(&mut client, shares[1].expose()).unwrap()).0, ClusterState::Active);
}

#[test]
fn shares_are_kept_for_ten_minutes() {
    let (world, _maker, shares) = of_custodians();
    let replica = world.unsealed_by(1, None).unwrap();
    let mut client = replica.client();
    give(&mut client, shares[0].expose()).unwrap();
    world.pass(Duration::from_secs(599));
    replica.follow();
    assert_eq!(given(&client.call(&ClusterInfo).unwrap()).1, 1);
    world.pass(Duration::from_secs(1));
    replica.follow();
    assert_eq!(given(&client.call(&ClusterInfo).unwrap()).1, 0);
    assert_eq!(given(&give(&mut client, shares[1].expose()).unwrap()), (ClusterState::Sealed, 1));
}

#[test]
fn a_sealed_engine_lets_go_of_a_cluster_that_was_destroyed() {
    let (world, maker, shares) = of_custodians();
    let replica = world.unsealed_by(1, None).unwrap();
    give(&mut replica.client(), shares[0].expose()).unwrap();
    let cluster = maker.client().call(&ClusterInfo).unwrap().cluster.unwrap();
    maker.client_of("root").call(&keycore_wire::ZeroizeCluster { cluster }).unwrap();
    replica.follow();
    assert_eq!(replica.engine.cluster_state(), ClusterState::Uninitialized);
    assert!(!replica.engine.is_zeroized());
}

#[test]
fn what_is_asked_and_what_came_is_on_record_without_the_share() {
    let (world, _maker, shares) = of_custodians();
    let replica = world.unsealed_by(1, None).unwrap();
    let mut client = replica.client();
    give(&mut client, shares[0].expose()).unwrap();
    give(&mut client, shares[1].expose()).unwrap();
    let told = replica.audit.map(&replica.engine, |entry| format!("{} {}", entry.operation, entry.detail));
    assert!(told.contains(&"UnsealCluster 1 of 2 shares are in".to_owned()), "{told:?}");
    assert!(told.contains(&"UnsealCluster unsealed".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("hsm-unseal-share")), "{told:?}");
}

#[test]
fn words_are_stretched_and_a_key_is_not() {
    let key = data_encoding::HEXLOWER.encode(&(0..32).map(|n| n * 7).collect::<Vec<u8>>());
    let words = "correct horse battery staple";
    for (secret, method) in [(&*key, UnsealMethod::Secret), (words, UnsealMethod::Passphrase)] {
        let world = World::new();
        let replica = world.unsealed_by(0, Some(secret.as_bytes())).unwrap();
        let status = replica.client().call(&InitializeCluster).unwrap();
        assert_eq!(status.unseal.unwrap().method, method);
        world.unsealed_by(1, Some(secret.as_bytes())).unwrap();
        let wrong = world.unsealed_by(2, Some(b"another secret of some length")).err().unwrap();
        assert!(matches!(wrong, OpenError::Unseal(UnsealError::WrongSecret)), "{wrong}");
        // Who has no secret in the configuration may be given it.
        let sealed = world.unsealed_by(3, None).unwrap();
        assert_eq!(give(&mut sealed.client(), b"something else"), Err(RefusalCode::WrongUnsealPart));
        let status = give(&mut sealed.client(), secret.as_bytes()).unwrap();
        assert_eq!(status.state, ClusterState::Initialized);
    }
}

#[test]
fn the_method_can_be_chosen_but_words_are_never_taken_for_a_key() {
    let world = World::new();
    let replica = world.unsealed_by(0, Some(b"correct horse battery staple")).unwrap();
    let by = |method| InitializeBy { method };
    assert_eq!(replica.client().refused(&by(UnsealMethod::Secret)), RefusalCode::UnsealSecretUnfit);
    let none = world.unsealed_by(1, None).unwrap();
    assert_eq!(none.client().refused(&by(UnsealMethod::Passphrase)), RefusalCode::UnsealSecretUnfit);
    assert_eq!(none.client().refused(&InitializeCluster), RefusalCode::UnsealSecretUnfit);
    for (needed, of) in [(1, 3), (3, 2), (2, 17), (0, 0)] {
        let custodians = UnsealMethod::Custodians { needed, of };
        assert_eq!(none.client().refused(&by(custodians)), RefusalCode::Malformed);
    }
    let made = replica.client().call(&by(UnsealMethod::Passphrase)).unwrap();
    assert!(made.shares.is_empty());
    assert_eq!(replica.client().refused(&by(UnsealMethod::Passphrase)), RefusalCode::WrongClusterState);
}

#[test]
fn guesses_at_a_passphrase_are_throttled() {
    let world = World::new();
    world
        .unsealed_by(0, Some(b"correct horse battery staple"))
        .unwrap()
        .client()
        .call(&InitializeCluster)
        .unwrap();
    let sealed = world.unsealed_by(1, None).unwrap();
    let mut client = sealed.client();
    let refused = (0..200).map(|_| give(&mut client, b"a guess at the passphrase").unwrap_err());
    assert!(refused.into_iter().any(|code| code == RefusalCode::LoginThrottled));
    let login = Login { user: name("root"), password: secret(PASSWORD) };
    assert_eq!(client.refused(&login), RefusalCode::Sealed);
}

#[test]
fn forged_shares_are_throttled_so_that_they_do_not_fill_the_audit_log() {
    let (world, _maker, shares) = of_custodians();
    let sealed = world.unsealed_by(1, None).unwrap();
    let mut client = sealed.client();
    let refused: Vec<_> =
        (0..200).map(|_| give(&mut client, b"hsm-unseal-share-forged").unwrap_err()).collect();
    let taken = refused.iter().filter(|code| **code == RefusalCode::WrongUnsealPart).count();
    assert!((1..=40).contains(&taken), "{taken} of 200 were looked at");
    assert_eq!(refused.last(), Some(&RefusalCode::LoginThrottled));
    let records = sealed.audit.map(&sealed.engine, |entry| entry.operation == "UnsealCluster");
    assert!(records.iter().filter(|unseal| **unseal).count() <= 80, "{}", records.len());
    // It is over by itself.
    world.pass(Duration::from_secs(60));
    give(&mut client, shares[0].expose()).unwrap();
    assert_eq!(given(&give(&mut client, shares[2].expose()).unwrap()).0, ClusterState::Active);
}

/// Nobody should have to call the custodians again because a disk was slow.
#[test]
fn shares_are_kept_until_the_cluster_is_open() {
    let (world, _maker, shares) = of_custodians();
    let hook = Hook::default();
    let store = Box::new(Hooked { store: world.store(), hook: hook.clone() });
    let replica = world.open(store, 1, 7).unwrap();
    let mut client = replica.client();
    give(&mut client, shares[0].expose()).unwrap();
    hook.set(|kind| match kind {
        USER => Err(StoreError::Busy { path: "store.db".into() }),
        _ => Ok(Then::Again),
    });
    assert_eq!(give(&mut client, shares[1].expose()), Err(RefusalCode::StoreUnavailable));
    assert_eq!(given(&client.call(&ClusterInfo).unwrap()), (ClusterState::Sealed, 2));
    hook.set(|_| Ok(Then::Over));
    // Any one that belongs to them, and no other.
    assert_eq!(given(&give(&mut client, shares[2].expose()).unwrap()), (ClusterState::Active, 0));
    replica.client_of("web");
}
