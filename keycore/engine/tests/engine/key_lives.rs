//! Keys that end: with their session, after a rotation, by an admin's order.

use std::time::Duration;

use keycore_store::{Change, Kind};
use keycore_wire::{
    Attribute, AttributeChange, Attributes, DeleteKey, FindKey, GenerateKey, Hash, KeyAlgorithm, KeyId,
    KeyInfo, KeySelector, ListKeys, ListSessionKeys, Logout, MAX_SESSION_KEYS, RefusalCode, Resume, Role,
    RotateKey, SetAttribute, ShareKey, SignData, SignMechanism, Signer, TlsSign, UserLogout, VerifyData,
    ZeroizeKeys,
};

use crate::harness::{Client, PASSWORD, Replica, World, generate, handshake, name, random_key};

const HMAC: SignMechanism = SignMechanism::Hmac(Hash::Sha256);

pub(crate) fn session_key(label: &str) -> GenerateKey {
    let mut request = generate(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, label);
    request.template.attributes = request.template.attributes.set(Attribute::Token, false);
    request
}

fn mac(key: KeyId) -> SignData<'static> {
    SignData { key, mechanism: HMAC, prehashed: false, data: b"m" }
}

fn rotate(key: KeyId, grace_secs: u32) -> RotateKey {
    RotateKey { idempotency_key: random_key(), key, grace_secs }
}

fn by_label(label: &str) -> FindKey {
    FindKey { key: KeySelector::Label(label.parse().unwrap()) }
}

fn own(client: &mut Client) -> Vec<KeyInfo> {
    client.call(&ListKeys { after: None, limit: 100 }).unwrap().keys
}

/// Session keys that the store still holds, found by making the cluster's count of keys tell.
fn keys_in_store(replica: &Replica) -> u64 {
    replica.client().call(&keycore_wire::ClusterInfo).unwrap().keys
}

#[test]
fn a_session_key_is_its_sessions_on_every_replica() {
    let (world, here) = World::active();
    let there = world.replica(1);
    let mut web = here.client();
    let grant = web.login("web", PASSWORD).unwrap();
    let key = web.call(&session_key("k")).unwrap();
    web.call(&mac(key.id)).unwrap();
    assert_eq!(web.call(&by_label("k")).unwrap(), key);
    assert_eq!(web.call(&ListSessionKeys).unwrap().keys, core::slice::from_ref(&key));
    assert!(own(&mut web).is_empty(), "it is in no list of the user's");

    // The same session elsewhere, and another one of the same user.
    let mut same = there.client();
    same.call(&Resume { token: grant.token }).unwrap();
    same.call(&mac(key.id)).unwrap();
    for mut other in [here.client_of("web"), there.client_of("web")] {
        for _cached in 0..2 {
            assert_eq!(other.refused(&mac(key.id)), RefusalCode::NotFound);
        }
        assert_eq!(other.refused(&by_label("k")), RefusalCode::NotFound);
        assert_eq!(other.refused(&DeleteKey { key: key.id }), RefusalCode::NotFound);
        assert!(other.call(&ListSessionKeys).unwrap().keys.is_empty());
        // The label is free there.
        other.call(&session_key("k")).unwrap();
    }
    // And deleted by hand.
    web.call(&DeleteKey { key: key.id }).unwrap();
    assert!(web.call(&ListSessionKeys).unwrap().keys.is_empty());
    there.follow();
    assert_eq!(same.refused(&mac(key.id)), RefusalCode::NotFound);
}

#[test]
fn session_keys_are_gone_after_logout_expiry_and_forced_logout() {
    let (world, replica) = World::active();
    let there = world.replica(1);
    let ends: [fn(&World, &Replica, &mut Client); 3] = [
        |_, _, web| {
            web.call(&Logout).unwrap();
        },
        |_, replica, _| {
            replica.client_of("root").call(&UserLogout { name: name("web") }).unwrap();
        },
        |world, _, _| world.pass(Duration::from_hours(13)),
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let mut web = replica.client_of("web");
        for k in 0..3 {
            web.call(&session_key(&format!("k{k}"))).unwrap();
        }
        replica.engine.tidy(replica.now()).unwrap();
        assert_eq!(keys_in_store(&replica), 3, "{n}: the session goes on");
        end(&world, &replica, &mut web);
        there.follow();
        // Either replica deletes them, and the other one has nothing left to do.
        there.engine.tidy(there.now()).unwrap();
        replica.engine.tidy(replica.now()).unwrap();
        assert_eq!(keys_in_store(&replica), 0, "{n}");
    }
    let told = there.audit.map(&there.engine, |entry| (entry.operation.to_owned(), entry.detail.to_owned()));
    let ended = ("DeleteKey".to_owned(), "3 keys of a session that ended".to_owned());
    assert_eq!(told.iter().filter(|entry| **entry == ended).count(), 3);
}

/// A replica whose sessions are shorter ends a session there only.
#[test]
fn a_session_key_lasts_as_long_as_its_sessions_token_wherever_it_was_made() {
    let hour = Duration::from_hours(1);
    let (world, _) = World::active();
    let long = world.limited(1, |options| options.session_lifetime = 30 * 24 * hour);
    let short = world.limited(2, |options| options.session_lifetime = hour);
    let token = long.client().login("web", PASSWORD).unwrap().token;
    let duplicate = || keycore_wire::SessionToken(token.0.duplicate());
    let mut there = short.client();
    there.call(&Resume { token: duplicate() }).unwrap();
    let key = there.call(&session_key("key")).unwrap();
    world.pass(2 * hour);
    assert_eq!(there.refused(&mac(key.id)), RefusalCode::SessionEnded);
    for replica in [&long, &short] {
        replica.follow();
        replica.engine.tidy(replica.now()).unwrap();
    }
    let mut web = long.client();
    web.call(&Resume { token: duplicate() }).unwrap();
    web.call(&mac(key.id)).unwrap();
    world.pass(30 * 24 * hour);
    short.engine.tidy(short.now()).unwrap();
    assert_eq!(keys_in_store(&short), 0);
}

#[test]
fn a_session_has_so_many_keys_and_shares_none() {
    let (_world, replica) = World::active();
    replica.client_of("root").create_user("app", Role::CryptoUser).unwrap();
    let mut web = replica.client_of("web");
    let keys: Vec<_> =
        (0..MAX_SESSION_KEYS).map(|n| web.call(&session_key(&format!("k{n}"))).unwrap().id).collect();
    assert_eq!(web.refused(&session_key("more")), RefusalCode::LimitReached);
    assert_eq!(web.refused(&ShareKey { key: keys[0], with: name("app") }), RefusalCode::KeyNotSuitable);
    assert_eq!(web.refused(&rotate(keys[0], 0)), RefusalCode::AttributeFixed);
}

#[test]
fn a_rotated_key_verifies_until_its_grace_period_ends() {
    let (world, here) = World::active();
    here.client_of("root").create_user("app", Role::CryptoUser).unwrap();
    let there = world.replica(1);
    let (mut web, mut other, mut app) =
        (here.client_of("web"), there.client_of("web"), there.client_of("app"));
    let old = web.call(&generate(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "k")).unwrap();
    web.call(&ShareKey { key: old.id, with: name("app") }).unwrap();
    let code = other.call(&mac(old.id)).unwrap().bytes;
    let verify = VerifyData {
        signer: Signer::Key(old.id),
        mechanism: HMAC,
        prehashed: false,
        data: b"m",
        signature: &code,
    };

    let request = rotate(old.id, 3600);
    let new = web.call(&request).unwrap();
    assert_eq!(web.call(&request).unwrap(), new, "sent again");
    assert_eq!((new.predecessor, new.label.clone()), (Some(old.id), old.label.clone()));
    assert_eq!((new.attributes, new.algorithm), (old.attributes, old.algorithm));
    assert_ne!(new.check_value, old.check_value);
    there.follow();
    assert_eq!(other.call(&by_label("k")).unwrap(), new);
    let retired = other.call(&FindKey { key: KeySelector::Id(old.id) }).unwrap();
    assert!(retired.retired_until.is_some() && !retired.attributes.has(Attribute::Sign));
    for client in [&mut other, &mut app] {
        assert_eq!(client.refused(&mac(old.id)), RefusalCode::KeyNotSuitable);
        client.call(&mac(new.id)).unwrap();
        client.call(&verify).unwrap();
    }
    assert_eq!(web.refused(&rotate(old.id, 0)), RefusalCode::AttributeFixed, "once");
    let back = SetAttribute { key: old.id, change: AttributeChange::Set(Attribute::Sign, true) };
    assert_eq!(web.refused(&back), RefusalCode::AttributeFixed);

    there.engine.tidy(there.now()).unwrap();
    other.call(&verify).unwrap();
    world.pass(Duration::from_secs(3600));
    there.engine.tidy(there.now()).unwrap();
    here.follow();
    assert_eq!(other.refused(&verify), RefusalCode::NotFound);
    assert_eq!(web.refused(&verify), RefusalCode::NotFound);
    assert_eq!(own(&mut web), [new]);
}

#[test]
fn a_rotated_tls_key_makes_handshakes_while_its_certificate_is_replaced() {
    let (world, replica) = World::active();
    let mut web = replica.client_of("web");
    let old = web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    let new = web.call(&rotate(old.id, 60)).unwrap();
    let message = handshake();
    let scheme = KeyAlgorithm::P256.schemes()[0];
    let sign =
        |key: &KeyInfo| TlsSign { key: key.spki_sha256.unwrap(), scheme, site: "www", message: &message };
    web.call(&sign(&old)).unwrap();
    web.call(&sign(&new)).unwrap();
    world.pass(Duration::from_secs(60));
    replica.engine.tidy(replica.now()).unwrap();
    assert_eq!(web.refused(&sign(&old)), RefusalCode::NotFound);
    web.call(&sign(&new)).unwrap();
}

#[test]
fn an_admin_deletes_all_keys_of_a_user() {
    let (world, here) = World::active();
    let there = world.replica(1);
    let mut root = here.client_of("root");
    root.create_user("app", Role::CryptoUser).unwrap();
    let (mut web, mut app) = (here.client_of("web"), there.client_of("app"));
    for n in 0..150 {
        web.call(&generate(KeyAlgorithm::Aes128, Attributes::WRAP, &format!("k{n}"))).unwrap();
    }
    let mut stays = generate(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "stays");
    stays.template.attributes =
        stays.template.attributes.set(Attribute::Destroyable, false).set(Attribute::Modifiable, false);
    let stays = web.call(&stays).unwrap().id;
    web.call(&ShareKey { key: stays, with: name("app") }).unwrap();
    let of_session = web.call(&session_key("s")).unwrap().id;
    let others = app.call(&generate(KeyAlgorithm::GenericSecret(32), Attributes::SIGN, "k0")).unwrap().id;
    there.follow();
    app.call(&mac(stays)).unwrap();

    let zeroize = ZeroizeKeys { user: name("web") };
    assert_eq!(web.refused(&zeroize), RefusalCode::PermissionDenied);
    assert_eq!(root.refused(&ZeroizeKeys { user: name("nobody") }), RefusalCode::NotFound);
    assert_eq!(root.call(&zeroize).unwrap().keys, 152);
    assert_eq!(root.call(&zeroize).unwrap().keys, 0);
    there.follow();
    assert!(own(&mut web).is_empty());
    assert_eq!(web.refused(&mac(of_session)), RefusalCode::NotFound);
    assert_eq!(app.refused(&mac(stays)), RefusalCode::NotFound);
    app.call(&mac(others)).unwrap();
}

/// An engine that can't read a user shuts him out; that is no reason to destroy what can't be made again.
#[test]
fn keys_of_a_session_are_not_destroyed_because_its_user_can_t_be_read() {
    const USER: Kind = Kind(2);
    let (world, here) = World::active();
    let there = world.replica(1);
    let mut web = here.client_of("web");
    let key = web.call(&session_key("k")).unwrap().id;
    let mut store = world.store();
    let whole = store.scan(USER, None, None, 9).unwrap();
    let mut change_all = |damage: u8| {
        for user in &whole {
            let expect = store.load(USER, user.id).unwrap().unwrap().version;
            let mut sealed = user.sealed.clone();
            *sealed.last_mut().unwrap() ^= damage;
            let base = store.revision().unwrap();
            store.commit(base, &[Change::Reseal { kind: USER, id: user.id, expect, sealed }]).unwrap();
        }
    };
    change_all(1);
    there.engine.follow(there.now()).unwrap_err();
    let told = there.engine.tidy(there.now()).unwrap_err();
    assert!(told.contains("of kind 2 is damaged"), "{told}");
    assert_eq!(keys_in_store(&here), 1);
    here.engine.follow(here.now()).unwrap_err();
    assert_eq!(web.refused(&mac(key)), RefusalCode::SessionEnded);
}
