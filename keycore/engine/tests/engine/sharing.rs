//! Keys that are shared, and keys that are changed, on two replicas.

use keycore_wire::{
    Attribute, AttributeChange, Attributes, DeleteKey, FindKey, KeyAlgorithm, KeyInfo, KeySelector,
    ListSharedKeys, ListShares, RefusalCode, Role, SetAttribute, ShareKey, Sign, SignatureScheme, TlsSign,
    UnshareKey,
};

use crate::harness::{Client, World, generate, handshake, name};

fn set(key: &KeyInfo, attribute: Attribute, on: bool) -> SetAttribute {
    SetAttribute { key: key.id, change: AttributeChange::Set(attribute, on) }
}

fn sign(key: &KeyInfo) -> Sign<'_> {
    Sign { key: key.id, scheme: SignatureScheme::EcdsaP256Sha256, message: b"m" }
}

fn shared(client: &mut Client) -> Vec<KeyInfo> {
    client.call(&ListSharedKeys { after: None, limit: 10 }).unwrap().keys
}

#[test]
fn a_sharee_uses_a_key_and_does_nothing_else_with_it() {
    let (world, here) = World::active();
    here.client_of("root").create_user("app", Role::CryptoUser).unwrap();
    let there = world.replica(1);
    let (mut web, mut app) = (here.client_of("web"), there.client_of("app"));
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    assert_eq!(app.refused(&sign(&key)), RefusalCode::NotFound);

    let share = ShareKey { key: key.id, with: name("app") };
    web.call(&share).unwrap();
    web.call(&share).unwrap();
    there.follow();
    app.call(&sign(&key)).unwrap();
    assert_eq!(web.call(&ListShares { key: key.id }).unwrap().with, [name("app")]);
    let seen = shared(&mut app);
    assert_eq!(
        (seen.len(), seen[0].id, seen[0].attributes),
        (1, key.id, Attributes::SIGN.set(Attribute::Local, true))
    );
    assert_eq!(seen[0], app.call(&FindKey { key: KeySelector::Id(key.id) }).unwrap());

    let denied = RefusalCode::PermissionDenied;
    assert_eq!(app.refused(&set(&key, Attribute::Sign, false)), denied);
    assert_eq!(app.refused(&ShareKey { key: key.id, with: name("app") }), denied);
    assert_eq!(app.refused(&UnshareKey { key: key.id, with: name("app") }), denied);
    assert_eq!(app.refused(&ListShares { key: key.id }), denied);
    assert_eq!(app.refused(&DeleteKey { key: key.id }), denied);

    // The key is cached there, and forgotten when the share is taken back.
    web.call(&UnshareKey { key: key.id, with: name("app") }).unwrap();
    there.follow();
    assert_eq!(app.refused(&sign(&key)), RefusalCode::NotFound);
    assert_eq!(shared(&mut app), []);
    assert_eq!(web.refused(&UnshareKey { key: key.id, with: name("app") }), RefusalCode::NotFound);
}

#[test]
fn a_shared_tls_key_makes_handshakes_and_is_gone_when_its_owner_deletes_it() {
    let (_world, replica) = World::active();
    replica.client_of("root").create_user("app", Role::CryptoUser).unwrap();
    let (mut web, mut app) = (replica.client_of("web"), replica.client_of("app"));
    let key = web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    web.call(&ShareKey { key: key.id, with: name("app") }).unwrap();
    let message = handshake();
    let scheme = SignatureScheme::EcdsaP256Sha256;
    let request = TlsSign { key: key.spki_sha256.unwrap(), scheme, site: "www", message: &message };
    for _cached in 0..2 {
        web.call(&request).unwrap();
        app.call(&request).unwrap();
    }
    web.call(&DeleteKey { key: key.id }).unwrap();
    assert_eq!(app.refused(&request), RefusalCode::NotFound);
    assert_eq!(shared(&mut app), []);
}

#[test]
fn keys_are_shared_with_other_crypto_users_only() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k").id;
    for (with, code) in [
        ("web", RefusalCode::KeyNotSuitable),
        ("root", RefusalCode::KeyNotSuitable),
        ("nobody", RefusalCode::NotFound),
    ] {
        assert_eq!(web.refused(&ShareKey { key, with: name(with) }), code, "{with}");
    }
}

#[test]
fn a_changed_attribute_holds_on_every_replica() {
    let (world, here) = World::active();
    let there = world.replica(1);
    let (mut web, mut other) = (here.client_of("web"), there.client_of("web"));
    let key = web.generate(KeyAlgorithm::P256, Attributes::SIGN, "k");
    other.call(&sign(&key)).unwrap();
    let changed = web.call(&set(&key, Attribute::Sign, false)).unwrap();
    assert!(!changed.attributes.has(Attribute::Sign));
    there.follow();
    assert_eq!(other.refused(&sign(&key)), RefusalCode::KeyNotSuitable);
    assert_eq!(other.refused(&set(&key, Attribute::Sign, true)), RefusalCode::AttributeFixed);

    let label =
        |text: &str| SetAttribute { key: key.id, change: AttributeChange::Label(text.parse().unwrap()) };
    web.generate(KeyAlgorithm::P256, Attributes::SIGN, "taken");
    assert_eq!(web.refused(&label("taken")), RefusalCode::AlreadyExists);
    web.call(&label("new")).unwrap();
    let by_label = |text: &str| FindKey { key: KeySelector::Label(text.parse().unwrap()) };
    assert_eq!(other.call(&by_label("new")).unwrap().id, key.id);
    assert_eq!(other.refused(&by_label("k")), RefusalCode::NotFound);
}

#[test]
fn what_is_not_modifiable_or_destroyable_stays() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = web.generate(KeyAlgorithm::Aes256, Attributes::WRAP, "kek");
    web.call(&set(&key, Attribute::Destroyable, false)).unwrap();
    assert_eq!(web.refused(&DeleteKey { key: key.id }), RefusalCode::AttributeFixed);
    web.call(&set(&key, Attribute::Modifiable, false)).unwrap();
    for (attribute, on) in
        [(Attribute::Modifiable, true), (Attribute::Destroyable, true), (Attribute::Wrap, false)]
    {
        assert_eq!(web.refused(&set(&key, attribute, on)), RefusalCode::AttributeFixed, "{attribute}");
    }
}

#[test]
fn trusted_is_an_admins_to_give() {
    let (_world, replica) = World::active();
    let (mut root, mut web) = (replica.client_of("root"), replica.client_of("web"));
    let key = web.generate(KeyAlgorithm::Aes256, Attributes::WRAP, "kek");
    assert_eq!(web.refused(&set(&key, Attribute::Trusted, true)), RefusalCode::PermissionDenied);
    assert_eq!(root.refused(&set(&key, Attribute::WrapWithTrusted, true)), RefusalCode::PermissionDenied);
    let mut request = generate(KeyAlgorithm::Aes256, Attributes::WRAP, "born-trusted");
    request.template.attributes = request.template.attributes.set(Attribute::Trusted, true);
    assert_eq!(web.refused(&request), RefusalCode::InvalidAttributes);
    assert!(root.call(&set(&key, Attribute::Trusted, true)).unwrap().attributes.has(Attribute::Trusted));
    assert!(!root.call(&set(&key, Attribute::Trusted, false)).unwrap().attributes.has(Attribute::Trusted));
    let told =
        replica.audit.map(&replica.engine, |entry| (entry.operation.to_owned(), entry.detail.to_owned()));
    assert!(told.contains(&("SetAttribute".to_owned(), "trusted on".to_owned())), "{told:?}");
}
