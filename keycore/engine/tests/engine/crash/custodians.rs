//! Power cuts while the cluster is handed to custodians: whatever is left opens by the secret from before, or by shares that a client
//! was given, and has all keys.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use keycore_wire::{
    ActivateCluster, Attributes, ClusterInfo, ClusterState, ConfirmCustodians, InitializeCluster,
    KeyAlgorithm, ListKeys, PrepareCustodians, Role, Secret, UnsealCluster, UnsealMethod,
};

use super::disk::{Disk, Left};
use super::recording::{self, ACKNOWLEDGEMENTS, DIRECTORY, Event};
use crate::harness::{PASSWORD, Replica, World, name, secret};

/// What the client was told by some moment.
#[derive(Default)]
struct Told {
    has_key: bool,
    shares: Vec<Secret>,
    confirmed: bool,
}

impl Told {
    fn hear(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["key"] => self.has_key = true,
            ["shares", ref shares @ ..] => {
                self.shares = shares.iter().map(|share| secret(share)).collect();
            }
            ["confirmed"] => self.confirmed = true,
            ref other => panic!("{other:?}"),
        }
    }

    fn confirmation(&self) -> ConfirmCustodians {
        ConfirmCustodians { shares: self.shares.iter().map(Secret::duplicate).collect() }
    }
}

#[test]
fn a_power_cut_at_any_write_or_sync_leaves_the_secret_or_shares_that_were_told() {
    let Some(events) = recording::record("crash::custodians::recorded") else { return };
    let (mut disk, mut told, mut by_shares, mut by_secret) = (Disk::default(), Told::default(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        if let Event::Acknowledged(line) = event {
            told.hear(line);
            continue;
        }
        disk.apply(event);
        // Before there is a key nothing can be lost.
        if !told.has_key {
            continue;
        }
        for left in [Left::Nothing, Left::Everything, Left::Picked(at as u64)] {
            let place = recording::fast_directory();
            disk.after_power_cut(left).write_to(place.path());
            match opens(place.path(), &told) {
                UnsealMethod::Custodians { .. } => by_shares += 1,
                _ => by_secret += 1,
            }
        }
    }
    assert!(
        told.confirmed && by_secret > 20 && by_shares > 5,
        "{by_secret} by the secret, {by_shares} by shares"
    );
    println!("{by_secret} disks open by the secret, {by_shares} by the shares");
}

/// Opens what is left with what somebody has, and goes on from there.
fn opens(directory: &Path, told: &Told) -> UnsealMethod {
    let replica = World::on_disk(directory, 0);
    let method = replica.client().call(&ClusterInfo).unwrap().unseal.unwrap().method;
    match method {
        UnsealMethod::Custodians { .. } => {
            assert!(!told.shares.is_empty(), "nobody has the shares");
            unseal(&replica, &told.shares);
        }
        _ => assert!(!told.confirmed, "the old secret opens what was given to custodians"),
    }
    check_key(&replica);
    if told.shares.is_empty() {
        return method;
    }
    // Said again, it is done, however far it was.
    let mut root = replica.client_of("root");
    let status = root.call(&told.confirmation()).unwrap();
    assert_eq!(status.unseal.unwrap().method, UnsealMethod::Custodians { needed: 2, of: 3 });
    drop((root, replica));
    let replica = World::on_disk(directory, 0);
    unseal(&replica, &told.shares);
    check_key(&replica);
    method
}

fn unseal(replica: &Replica, shares: &[Secret]) {
    let mut client = replica.client();
    assert_eq!(client.call(&ClusterInfo).unwrap().state, ClusterState::Sealed);
    for share in &shares[1..] {
        client.call(&UnsealCluster { part: share.duplicate() }).unwrap();
    }
    assert_eq!(client.call(&ClusterInfo).unwrap().state, ClusterState::Active);
}

fn check_key(replica: &Replica) {
    let keys = replica.client_of("web").call(&ListKeys { after: None, limit: 9 }).unwrap().keys;
    assert_eq!(keys.len(), 1);
}

/// The recorded process; without its variable there is nothing to do.
#[test]
fn recorded() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut told = File::create(directory.join(ACKNOWLEDGEMENTS)).unwrap();
    let mut tell = |line: &str| assert_eq!(told.write(line.as_bytes()).unwrap(), line.len());
    let replica = World::on_disk(directory, 0);
    replica.client().call(&InitializeCluster).unwrap();
    let activate = ActivateCluster { admin: name("root"), password: secret(PASSWORD) };
    replica.client().call(&activate).unwrap();
    let mut root = replica.client_of("root");
    root.create_user("web", Role::CryptoUser).unwrap();
    replica.client_of("web").generate(KeyAlgorithm::Ed25519, Attributes::SIGN, "key");
    tell("key");
    let prepared = root.call(&PrepareCustodians { needed: 2, of: 3 }).unwrap();
    let shares = prepared.shares.iter().map(|share| str::from_utf8(share.expose()).unwrap());
    let mut line = vec!["shares"];
    line.extend(shares);
    tell(&line.join(" "));
    let shares = prepared.shares.iter().map(Secret::duplicate).collect();
    root.call(&ConfirmCustodians { shares }).unwrap();
    tell("confirmed");
    drop((root, replica));
}
