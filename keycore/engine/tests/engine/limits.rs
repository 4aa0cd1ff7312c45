//! The limits of the configuration: what fits, and the first thing that does not.

use keycore_wire::{
    Attribute, Attributes, KeyAlgorithm, RefusalCode, Role, Secret, ShareKey, UnsealCluster, WrapKey,
    WrapMechanism,
};

use crate::harness::{World, generate, name, random_key};

const LIMIT: RefusalCode = RefusalCode::LimitReached;

#[test]
fn users_are_as_many_as_the_configuration_says() {
    let (world, _) = World::active();
    let replica = world.limited(1, |options| options.max_users = 4);
    let mut root = replica.client_of("root");
    // Of root and web there are two already.
    for user in ["a", "b"] {
        root.create_user(user, Role::CryptoUser).unwrap();
    }
    assert_eq!(root.create_user("c", Role::ApplianceUser).unwrap_err().code, LIMIT);
    root.call(&keycore_wire::UserDelete { name: name("a") }).unwrap();
    root.create_user("c", Role::ApplianceUser).unwrap();
}

#[test]
fn keys_are_as_many_as_the_configuration_says_for_each_user_and_for_all() {
    let (world, first) = World::active();
    first.client_of("root").create_user("app", Role::CryptoUser).unwrap();
    let replica = world.limited(1, |options| (options.max_user_keys, options.max_keys) = (2, 3));
    let (mut web, mut app) = (replica.client_of("web"), replica.client_of("app"));
    let asked = |label| generate(KeyAlgorithm::P256, Attributes::SIGN, label);
    let made = web.call(&asked("1")).unwrap();
    web.call(&asked("2")).unwrap();
    assert_eq!(web.refused(&asked("3")), LIMIT);
    // A rotated key is one until it is deleted.
    let rotate = keycore_wire::RotateKey { idempotency_key: random_key(), key: made.id, grace_secs: 60 };
    assert_eq!(web.refused(&rotate), LIMIT);
    app.call(&asked("1")).unwrap();
    assert_eq!(app.refused(&asked("2")), LIMIT, "there are three");
    web.call(&keycore_wire::DeleteKey { key: made.id }).unwrap();
    app.call(&asked("2")).unwrap();
}

#[test]
fn the_keys_of_all_sessions_count_as_the_user_s() {
    let (world, _) = World::active();
    let replica = world.limited(1, |options| options.max_user_keys = 3);
    let asked = |label, is_token| {
        let mut asked = generate(KeyAlgorithm::P256, Attributes::SIGN, label);
        asked.template.attributes = asked.template.attributes.set(Attribute::Token, is_token);
        asked
    };
    let mut one = replica.client_of("web");
    let mut other = replica.client_of("web");
    one.call(&asked("token", true)).unwrap();
    let of_session = one.call(&asked("1", false)).unwrap();
    other.call(&asked("2", false)).unwrap();
    for client in [&mut one, &mut other] {
        for is_token in [true, false] {
            assert_eq!(client.refused(&asked("more", is_token)), LIMIT);
        }
    }
    one.call(&keycore_wire::DeleteKey { key: of_session.id }).unwrap();
    other.call(&asked("more", false)).unwrap();
    // Those of a session that ended make room once they are deleted.
    other.call(&keycore_wire::Logout).unwrap();
    replica.engine.tidy(replica.now()).unwrap();
    one.call(&asked("1", true)).unwrap();
    one.call(&asked("2", true)).unwrap();
    assert_eq!(one.refused(&asked("3", true)), LIMIT);
}

#[test]
fn shares_are_as_many_as_the_configuration_says() {
    let (world, first) = World::active();
    let mut root = first.client_of("root");
    for user in ["a", "b", "c"] {
        root.create_user(user, Role::CryptoUser).unwrap();
    }
    let replica = world.limited(1, |options| options.max_key_shares = 2);
    let mut web = replica.client_of("web");
    let mut asked = generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    asked.template.share_with = ["a", "b", "c"].map(name).to_vec();
    assert_eq!(web.refused(&asked), LIMIT);
    asked.template.share_with.pop();
    let key = web.call(&asked).unwrap().id;
    assert_eq!(web.refused(&ShareKey { key, with: name("c") }), LIMIT);
    // Without a lower one, it is the protocol's.
    let mut web = first.client_of("web");
    for n in 0..63 {
        root.create_user(&format!("u{n}"), Role::CryptoUser).unwrap();
    }
    for n in 0..62 {
        web.call(&ShareKey { key, with: name(&format!("u{n}")) }).unwrap();
    }
    assert_eq!(web.refused(&ShareKey { key, with: name("u62") }), LIMIT);
}

#[test]
fn a_shared_key_is_not_wrapped_by_whom_it_is_shared_with() {
    let (_world, replica) = World::active();
    replica.client_of("root").create_user("app", Role::CryptoUser).unwrap();
    let (mut web, mut app) = (replica.client_of("web"), replica.client_of("app"));
    let mut asked = generate(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "k");
    asked.template.attributes = asked.template.attributes.set(Attribute::Extractable, true);
    asked.template.share_with = vec![name("app")];
    let key = web.call(&asked).unwrap().id;
    let wrapping = app.generate(KeyAlgorithm::Aes256, Attributes::WRAP, "kek").id;
    let wrap = WrapKey { wrapping, key, mechanism: WrapMechanism::AesKwp };
    assert_eq!(app.refused(&wrap), RefusalCode::PermissionDenied);
    // Its owner does, with a wrapping key of its own: it is the sharee that may not.
    let wrapping = web.generate(KeyAlgorithm::Aes256, Attributes::WRAP, "kek").id;
    web.call(&WrapKey { wrapping, ..wrap }).unwrap();
}

#[test]
fn only_a_sealed_engine_lets_strangers_queue_a_long_secret() {
    let unseal = UnsealCluster { part: Secret::new(vec![b'x'; 2000]) };
    let (_world, open) = World::active();
    let (refused, inline) = open.client().call_where(&unseal);
    assert_eq!((refused.unwrap_err().code, inline), (RefusalCode::Malformed, true));
    let (_world, sealed) = crate::unseal::sealed();
    let (refused, inline) = sealed.client().call_where(&unseal);
    assert_eq!((refused.unwrap_err().code, inline), (RefusalCode::WrongUnsealPart, false));
}
