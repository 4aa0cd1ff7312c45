use keycore_wire::{
    Attribute, Attributes, DeleteKey, FindKey, GenerateKey, ImportKey, KeyAlgorithm, KeySelector,
    KeyTemplate, ListKeys, PlainKey, PublicKey, RefusalCode, Role, Secret, Sign, SignatureScheme, TlsSign,
};
use p256::pkcs8::EncodePrivateKey;
use rsa::traits::PublicKeyParts;

use crate::harness::{World, generate, handshake, random_key};

fn import(pkcs8: &[u8], label: &str) -> ImportKey {
    ImportKey {
        idempotency_key: random_key(),
        template: KeyTemplate::new(label.parse().unwrap(), Attributes::SIGN),
        key: PlainKey::Pkcs8(Secret::new(pkcs8.to_vec())),
    }
}

#[test]
fn a_key_is_found_by_id_label_and_public_key_and_deleted() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let info = web.generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls/www");
    for key in [
        KeySelector::Id(info.id),
        KeySelector::Label(info.label.clone()),
        KeySelector::SpkiSha256(info.spki_sha256.unwrap()),
    ] {
        assert_eq!(web.call(&FindKey { key: key.clone() }).unwrap(), info);
        let public = web.call(&PublicKey { key }).unwrap();
        assert_eq!(
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &public.spki).as_ref(),
            info.spki_sha256.unwrap().0
        );
    }
    web.call(&DeleteKey { key: info.id }).unwrap();
    assert_eq!(web.refused(&DeleteKey { key: info.id }), RefusalCode::NotFound);
    assert_eq!(web.refused(&FindKey { key: KeySelector::Label(info.label.clone()) }), RefusalCode::NotFound);
    // The label is free again.
    assert_ne!(web.generate(KeyAlgorithm::P256, Attributes::SIGN, "tls/www").id, info.id);
}

#[test]
fn other_users_keys_do_not_exist() {
    let (_world, replica) = World::active();
    replica.client_of("root").create_user("mallory", Role::CryptoUser).unwrap();
    let info = replica.client_of("web").generate(KeyAlgorithm::P256, Attributes::SIGN, "mine");
    let tls = replica.client_of("web").generate(KeyAlgorithm::P256, Attributes::TLS_SERVER, "tls");
    let mut mallory = replica.client_of("mallory");
    for _ in 0..2 {
        let key = KeySelector::Id(info.id);
        assert_eq!(mallory.refused(&FindKey { key: key.clone() }), RefusalCode::NotFound);
        assert_eq!(mallory.refused(&PublicKey { key }), RefusalCode::NotFound);
        assert_eq!(
            mallory.refused(&FindKey { key: KeySelector::Label(info.label.clone()) }),
            RefusalCode::NotFound
        );
        assert_eq!(mallory.refused(&DeleteKey { key: info.id }), RefusalCode::NotFound);
        let scheme = SignatureScheme::EcdsaP256Sha256;
        assert_eq!(mallory.refused(&Sign { key: info.id, scheme, message: b"m" }), RefusalCode::NotFound);
        let message = handshake();
        let sign = TlsSign { key: tls.spki_sha256.unwrap(), scheme, site: "www", message: &message };
        assert_eq!(mallory.refused(&sign), RefusalCode::NotFound);
        assert!(mallory.call(&ListKeys { after: None, limit: 10 }).unwrap().keys.is_empty());
        // Once more with the keys in the cache.
        let mut web = replica.client_of("web");
        web.call(&Sign { key: info.id, scheme, message: b"m" }).unwrap();
        web.call(&sign).unwrap();
    }
    let truth = replica.audit.map(&replica.engine, |entry| entry.detail.to_owned());
    let owner = format!("the key is of user {}", info.owner);
    assert!(truth.contains(&owner), "the audit log tells whose key it is");
    // The same label is mallory's to give, too.
    mallory.generate(KeyAlgorithm::P256, Attributes::SIGN, "mine");
}

#[test]
fn the_same_request_makes_one_key() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let request = generate(KeyAlgorithm::P256, Attributes::SIGN, "once");
    let made = web.call(&request).unwrap();
    assert_eq!(web.call(&request).unwrap(), made);
    let other = GenerateKey { algorithm: KeyAlgorithm::P384, ..request.clone() };
    assert_eq!(web.refused(&other), RefusalCode::AlreadyExists);
    let same_label = generate(KeyAlgorithm::P256, Attributes::SIGN, "once");
    assert_eq!(web.refused(&same_label), RefusalCode::AlreadyExists);
    assert_eq!(web.call(&ListKeys { after: None, limit: 10 }).unwrap().keys, [made]);
}

#[test]
fn lists_come_in_pages() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let mut made: Vec<_> =
        (0..5).map(|i| web.generate(KeyAlgorithm::Ed25519, Attributes::SIGN, &format!("k{i}"))).collect();
    made.sort_by_key(|key| key.id);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = web.call(&ListKeys { after, limit: 2 }).unwrap();
        after = page.keys.last().map(|key| key.id);
        seen.extend(page.keys);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, made);
}

#[test]
fn imports_what_foreign_software_made() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let p256 = p256::SecretKey::random(&mut rsa::rand_core::OsRng).to_pkcs8_der().unwrap();
    let p384 = p384::SecretKey::random(&mut rsa::rand_core::OsRng).to_pkcs8_der().unwrap();
    let rsa = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    assert_eq!(rsa.n().bits(), 2048);
    let rsa = rsa.to_pkcs8_der().unwrap();
    for (pkcs8, algorithm) in [
        (p256.as_bytes(), KeyAlgorithm::P256),
        (p384.as_bytes(), KeyAlgorithm::P384),
        (rsa.as_bytes(), KeyAlgorithm::Rsa2048),
    ] {
        let request = import(pkcs8, algorithm.name());
        let info = web.call(&request).unwrap();
        assert_eq!((info.algorithm, info.attributes.has(Attribute::Local)), (algorithm, false));
        assert_eq!(web.call(&request).unwrap(), info);
        assert_eq!(web.refused(&import(pkcs8, "again")), RefusalCode::AlreadyExists);
        let scheme = algorithm.schemes()[0];
        web.call(&Sign { key: info.id, scheme, message: b"m" }).unwrap();
    }
}

#[test]
fn refuses_to_import_anything_else() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let good = p256::SecretKey::random(&mut rsa::rand_core::OsRng).to_pkcs8_der().unwrap();
    let good = good.as_bytes();
    // The public half of another key.
    let other = p256::SecretKey::random(&mut rsa::rand_core::OsRng).to_pkcs8_der().unwrap();
    let mut mixed = good.to_vec();
    let half = mixed.len() - 65;
    mixed[half..].copy_from_slice(&other.as_bytes()[half..]);
    let small = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap().to_pkcs8_der().unwrap();
    let three = rsa::BigUint::from(3u8);
    let weak = rsa::RsaPrivateKey::new_with_exp(&mut rsa::rand_core::OsRng, 2048, &three).unwrap();
    let weak = weak.to_pkcs8_der().unwrap();
    for bad in [
        &[][..],
        b"-----BEGIN PRIVATE KEY-----",
        &good[..good.len() - 1],
        &[good, &[0]].concat(),
        &mixed,
        small.as_bytes(),
        weak.as_bytes(),
    ] {
        assert_eq!(web.refused(&import(bad, "bad")), RefusalCode::InvalidKey);
    }
    assert_eq!(web.refused(&import(&[0x30; 8193], "bad")), RefusalCode::Malformed);
}
