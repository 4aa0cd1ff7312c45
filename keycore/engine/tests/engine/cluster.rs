use keycore_engine::{OpenError, UnsealError};
use keycore_wire::{
    ActivateCluster, ClusterInfo, ClusterState, Hello, InitializeCluster, ListKeys, Ping, Random,
    RefusalCode, encode_request,
};

use crate::harness::{PASSWORD, World, name, secret};

#[test]
fn goes_from_uninitialized_to_active_once() {
    let world = World::new();
    let replica = world.replica(0);
    let mut client = replica.client();
    assert_eq!(client.call(&ClusterInfo).unwrap().state, ClusterState::Uninitialized);
    let activate = || ActivateCluster { admin: name("root"), password: secret(PASSWORD) };
    assert_eq!(client.refused(&activate()), RefusalCode::WrongClusterState);
    assert_eq!(client.login("root", PASSWORD).unwrap_err().code, RefusalCode::WrongClusterState);

    let status = client.call(&InitializeCluster).unwrap();
    assert_eq!(status.state, ClusterState::Initialized);
    assert_eq!(client.refused(&InitializeCluster), RefusalCode::WrongClusterState);
    let short = ActivateCluster { admin: name("root"), password: secret("short") };
    assert_eq!(client.refused(&short), RefusalCode::InvalidPassword);

    let active = client.call(&activate()).unwrap();
    assert_eq!((active.state, active.users, active.keys), (ClusterState::Active, 1, 0));
    assert_eq!(active.cluster, status.cluster);
    assert_eq!(client.refused(&activate()), RefusalCode::WrongClusterState);
    client.login("root", PASSWORD).unwrap();
}

#[test]
fn a_sibling_picks_the_cluster_up() {
    let world = World::new();
    let (first, second) = (world.replica(0), world.replica(1));
    first.client().call(&InitializeCluster).unwrap();
    assert_eq!(second.engine.cluster_state(), ClusterState::Uninitialized);
    // The second one has not followed yet, and must not make a cluster of its own.
    assert_eq!(second.client().refused(&InitializeCluster), RefusalCode::WrongClusterState);
    assert_eq!(second.engine.cluster_state(), ClusterState::Initialized);
    second.client().call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    assert!(first.follow());
    assert!(!first.follow());
    assert_eq!(first.engine.cluster_state(), ClusterState::Active);
    first.client().login("root", PASSWORD).unwrap();

    let third = world.replica(2);
    third.client().login("root", PASSWORD).unwrap();
}

#[test]
fn replicas_race_to_initialize_and_agree() {
    let world = World::new();
    let replicas = [world.replica(0), world.replica(1), world.replica(2)];
    let won = std::thread::scope(|scope| {
        let racers = replicas.each_ref().map(|replica| {
            scope.spawn(|| {
                let mut client = replica.client();
                let initialized = client.call(&InitializeCluster).is_ok();
                let admin = ActivateCluster { admin: name("root"), password: secret(PASSWORD) };
                (initialized, client.call(&admin).is_ok())
            })
        });
        racers.map(|racer| racer.join().unwrap())
    });
    assert_eq!(won.iter().filter(|(initialized, _)| *initialized).count(), 1);
    assert_eq!(won.iter().filter(|(_, activated)| *activated).count(), 1);
    for replica in &replicas {
        replica.follow();
        replica.client().login("root", PASSWORD).unwrap();
    }
}

#[test]
fn the_wrong_unseal_secret_opens_nothing() {
    let (world, _replica) = World::active();
    let wrong = world.open(world.store(), 1, 8).err().unwrap();
    assert!(matches!(wrong, OpenError::Unseal(UnsealError::WrongSecret)), "{wrong}");
}

#[test]
fn a_hello_comes_first_and_once() {
    let (_world, replica) = World::active();
    let body = |magic| {
        let mut body = Vec::new();
        encode_request(&Hello { magic, ..Hello::new("test") }, &mut body).unwrap();
        body
    };
    let mut stranger = replica.stranger();
    let answered = stranger.send(&[2]);
    assert_eq!(
        (answered.body[..2].to_vec(), answered.close),
        (vec![1, RefusalCode::HelloExpected.code()], true)
    );
    assert!(replica.stranger().send(&body(*b"GET ")).close);
    let newer = Hello { min_version: 2, max_version: 9, ..Hello::new("test") };
    assert_eq!(replica.stranger().refused(&newer), RefusalCode::UnsupportedVersion);
    assert!(replica.stranger().send(&[]).close);

    let mut client = replica.client();
    let again = client.send(&body(keycore_wire::MAGIC));
    assert_eq!((again.body[1], again.close), (RefusalCode::HelloExpected.code(), false));
    client.call(&Ping).unwrap();
}

#[test]
fn bad_requests_are_refused_and_the_connection_goes_on() {
    let (_world, replica) = World::active();
    let mut client = replica.client();
    for (body, code) in [
        (&[][..], RefusalCode::Malformed),
        (&[0xee], RefusalCode::UnknownOperation),
        (&[0x42, 1, 2, 3, 4], RefusalCode::Malformed),
        (&[0x02, 0], RefusalCode::Malformed),
    ] {
        let answered = client.send(body);
        assert_eq!((answered.body[1], answered.close), (code.code(), false));
    }
    assert_eq!(client.refused(&ListKeys { after: None, limit: 1 }), RefusalCode::NotLoggedIn);
    assert_eq!(client.refused(&Random { length: 1 }), RefusalCode::NotLoggedIn);
    client.call(&Ping).unwrap();
}

#[test]
fn random_bytes_are_bounded() {
    let (_world, replica) = World::active();
    let mut client = replica.client_of("web");
    let (bytes, inline) = client.call_where(&Random { length: 4096 });
    assert_eq!((bytes.unwrap().bytes.len(), inline), (4096, true));
    for length in [0, 4097] {
        assert_eq!(client.refused(&Random { length }), RefusalCode::Malformed);
    }
}

#[test]
fn chance_bodies_never_panic_and_never_close_a_connection() {
    let (_world, replica) = World::active();
    let mut client = replica.client_of("web");
    let opcodes: Vec<u8> = keycore_wire::Request::TABLE.iter().map(|(opcode, _)| *opcode).collect();
    let bodies =
        (proptest::sample::select(opcodes), proptest::collection::vec(proptest::num::u8::ANY, 0..64));
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config {
        cases: 2000,
        failure_persistence: None,
        ..Default::default()
    });
    let client = std::cell::RefCell::new(&mut client);
    runner
        .run(&bodies, |(opcode, content)| {
            let body = [&[opcode], &content[..]].concat();
            let answered = client.borrow_mut().send(&body);
            proptest::prop_assert!(!answered.close && !answered.body.is_empty());
            Ok(())
        })
        .unwrap();
}
