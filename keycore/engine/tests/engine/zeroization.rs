//! The end of a cluster, on two replicas.

use std::collections::HashSet;

use keycore_wire::{
    ActivateCluster, Attributes, ClusterId, ClusterInfo, ClusterState, InitializeCluster, KeyAlgorithm, Ping,
    RefusalCode, Sign, SignatureScheme, ZeroizeCluster,
};

use crate::harness::{PASSWORD, World, name, secret};

#[test]
fn a_destroyed_cluster_is_gone_on_every_replica_and_another_one_can_be_made() {
    let (world, here) = World::active();
    let there = world.replica(1);
    let (mut root, mut web) = (here.client_of("root"), there.client_of("web"));
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k").id;
    let sign = Sign { key, scheme: SignatureScheme::EcdsaP256Sha256, message: b"m" };
    web.call(&sign).unwrap();
    let old = here.client().call(&ClusterInfo).unwrap().cluster.unwrap();

    assert_eq!(web.refused(&ZeroizeCluster { cluster: old }), RefusalCode::PermissionDenied);
    let another = ZeroizeCluster { cluster: ClusterId([1; 16]) };
    assert_eq!(root.refused(&another), RefusalCode::NotFound);
    web.call(&sign).unwrap();

    root.call(&ZeroizeCluster { cluster: old }).unwrap();
    // A sibling that has not noticed yet writes nothing into the store of the next cluster.
    let stray = there.client().login("nobody", PASSWORD).err().unwrap();
    assert_eq!(stray.code, RefusalCode::ShuttingDown);
    there.follow();
    for replica in [&here, &there] {
        assert!(replica.engine.is_zeroized());
        let mut client = replica.client();
        client.call(&Ping).unwrap();
        assert_eq!(client.refused(&ClusterInfo), RefusalCode::ShuttingDown);
        assert_eq!(client.refused(&InitializeCluster), RefusalCode::ShuttingDown);
        assert_eq!(client.login("root", PASSWORD).err().unwrap().code, RefusalCode::ShuttingDown);
        replica.engine.tidy(replica.now()).unwrap();
    }
    assert_eq!(web.refused(&sign), RefusalCode::ShuttingDown);
    let last = here.audit.map(&here.engine, |entry| entry.operation.to_owned());
    assert!(last.contains(&"ZeroizeCluster".to_owned()), "{last:?}");

    // The processes end, and are started anew.
    let anew = world.replica(0);
    let mut client = anew.client();
    let info = client.call(&ClusterInfo).unwrap();
    assert_eq!((info.state, info.cluster), (ClusterState::Uninitialized, None));
    client.call(&InitializeCluster).unwrap();
    client.call(&ActivateCluster { admin: name("root"), password: secret(PASSWORD) }).unwrap();
    let info = client.call(&ClusterInfo).unwrap();
    assert_ne!(info.cluster, Some(old));
    assert_eq!((info.users, info.keys), (1, 0));
}

#[test]
fn nothing_of_the_cluster_is_left_in_the_store() {
    let (world, replica) = World::active();
    replica.client_of("web").generate(KeyAlgorithm::Rsa2048, Attributes::SIGN, "k");
    let before = world.bytes_on_disk();
    let cluster = replica.client().call(&ClusterInfo).unwrap().cluster.unwrap();
    replica.client_of("root").call(&ZeroizeCluster { cluster }).unwrap();
    let after = world.bytes_on_disk();
    let kept = |piece: &[u8]| after.windows(piece.len()).any(|window| window == piece);
    // Sealed records are noise: a piece of 16 bytes that stays does so because it was not overwritten.
    let noise = |piece: &&[u8]| {
        let distinct: HashSet<_> = piece.iter().collect();
        // The schema is text, which stays.
        distinct.len() > 12 && piece.iter().filter(|byte| !byte.is_ascii()).count() > 3
    };
    let left = before.chunks(16).filter(noise).filter(|piece| kept(piece)).count();
    let pieces = before.chunks(16).filter(noise).count();
    assert!(pieces > 50, "{pieces}");
    assert_eq!(left, 0, "of {pieces} pieces");
}
