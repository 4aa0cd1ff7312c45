//! Two engines on one store.

use keycore_wire::{
    Attributes, DeleteKey, KeyAlgorithm, RefusalCode, Role, SignatureScheme, TlsSign, UserChangePassword,
};

use crate::harness::{PASSWORD, World, generate, handshake, name, secret};

/// Whoever asks for the cluster's state takes the store and the snapshot, and so does the follower: neither waits for the other.
#[test]
fn cluster_information_and_the_follower_do_not_wait_for_each_other() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let done = core::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..100 {
                first.client_of("root").create_user(&format!("user-{n}"), Role::ApplianceUser).unwrap();
            }
            done.store(true, core::sync::atomic::Ordering::SeqCst);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = second.client();
                while !done.load(core::sync::atomic::Ordering::SeqCst) {
                    client.call(&keycore_wire::ClusterInfo).unwrap();
                }
            });
        }
        while !done.load(core::sync::atomic::Ordering::SeqCst) {
            second.follow();
        }
    });
}

#[test]
fn a_key_made_here_signs_there_and_a_deleted_one_no_more() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let (mut here, mut there) = (first.client_of("web"), second.client_of("web"));
    let info = here.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    let message = handshake();
    let scheme = SignatureScheme::EcdsaP256Sha256;
    let sign = TlsSign { key: info.spki_sha256.unwrap(), scheme, site: "www", message: &message };
    there.call(&sign).unwrap();
    let (signed, inline) = there.call_where(&sign);
    assert_eq!((signed.is_ok(), inline), (true, true));

    here.call(&DeleteKey { key: info.id }).unwrap();
    assert_eq!(here.refused(&sign), RefusalCode::NotFound);
    assert!(second.follow());
    assert_eq!(there.refused(&sign), RefusalCode::NotFound);
}

#[test]
fn a_password_changed_here_ends_sessions_there() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let mut there = second.client_of("web");
    let change =
        UserChangePassword { name: Some(name("web")), current: None, new: secret("another password") };
    first.client_of("root").call(&change).unwrap();
    second.follow();
    let key = generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    assert_eq!(there.refused(&key), RefusalCode::SessionEnded);
    assert_eq!(second.client().login("web", PASSWORD).unwrap_err().code, RefusalCode::BadCredentials);
}

#[test]
fn changes_on_both_sides_at_once_all_happen() {
    let (world, first) = World::active();
    let second = world.replica(1);
    std::thread::scope(|scope| {
        for (replica, prefix) in [(&first, "a"), (&second, "b")] {
            scope.spawn(move || {
                let mut web = replica.client_of("web");
                for number in 0..10 {
                    web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("{prefix}{number}"));
                    replica.follow();
                }
            });
        }
    });
    let status = first.client().call(&keycore_wire::ClusterInfo).unwrap();
    assert_eq!(status.keys, 20);
}

#[test]
fn one_label_goes_to_one_of_two_rivals() {
    let (world, first) = World::active();
    let second = world.replica(1);
    let made: usize = std::thread::scope(|scope| {
        let rivals = [&first, &second].map(|replica| {
            scope.spawn(move || {
                let mut web = replica.client_of("web");
                let results = (0..5).map(|number| {
                    web.call(&generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("k{number}")))
                        .is_ok()
                });
                results.filter(|made| *made).count()
            })
        });
        rivals.into_iter().map(|rival| rival.join().unwrap()).sum()
    });
    assert_eq!(made, 5);
}
