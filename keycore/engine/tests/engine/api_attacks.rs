//! Attacks on the key API by its own user: Clulow, "On the security of PKCS #11" (2003); Bortolozzo, Centenaro, Focardi
//! and Steel, "Attacking and fixing PKCS#11 security tokens" (Tookan, 2010). Each ends at a refusal, and no sensitive key
//! is had in plain.

use aws_lc_rs::rand;
use keycore_wire::{
    Attribute, AttributeChange, Attributes, CipherMechanism, Decrypt, DeriveKey, DeriveMechanism, Encrypt,
    Hash, ImportKey, KeyAlgorithm, KeyForm, KeyId, KeyInfo, KeyTemplate, PlainKey, Refusal, RefusalCode,
    Secret, SetAttribute, UnwrapKey, WrapKey, WrapMechanism,
};

use crate::harness::{Client, World, generate, random_key};

const EXTRACTABLE: Attributes = Attributes::of(&[Attribute::Extractable]);
const KWP: WrapMechanism = WrapMechanism::AesKwp;
/// A key that the attacker knows.
const KNOWN: [u8; 32] = [0x42; 32];

fn make(web: &mut Client, usage: Attributes, label: &str) -> KeyId {
    web.call(&generate(KeyAlgorithm::Aes256, usage, label)).unwrap().id
}

fn import(web: &mut Client, usage: Attributes, label: &str) -> Result<KeyInfo, Refusal> {
    let template = KeyTemplate::new(label.parse().unwrap(), usage);
    let key = PlainKey::Aes(Secret::new(KNOWN.to_vec()));
    web.call(&ImportKey { idempotency_key: random_key(), template, key })
}

fn wrap(web: &mut Client, wrapping: KeyId, key: KeyId) -> Result<Vec<u8>, Refusal> {
    web.call(&WrapKey { wrapping, key, mechanism: KWP }).map(|wrapped| wrapped.bytes)
}

fn unwrap(
    web: &mut Client,
    unwrapping: KeyId,
    wrapped: &[u8],
    attributes: Attributes,
    label: &str,
) -> Result<KeyInfo, Refusal> {
    let template = KeyTemplate { attributes, ..KeyTemplate::new(label.parse().unwrap(), Attributes::NONE) };
    let (idempotency_key, mechanism, form) = (random_key(), KWP, KeyForm::Aes);
    web.call(&UnwrapKey { idempotency_key, unwrapping, mechanism, form, wrapped, template })
}

fn turn(web: &mut Client, key: KeyId, attribute: Attribute, on: bool) -> Result<KeyInfo, Refusal> {
    web.call(&SetAttribute { key, change: AttributeChange::Set(attribute, on) })
}

fn code<T>(result: Result<T, Refusal>) -> RefusalCode {
    result.err().unwrap().code
}

/// Clulow 3.1: wrap the target with a key, decrypt the blob with the same key.
#[test]
fn wrap_and_decrypt_with_one_key() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let both = Attributes::WRAP.with(Attributes::ENCRYPT);
    assert_eq!(web.refused(&generate(KeyAlgorithm::Aes256, both, "both")), RefusalCode::InvalidAttributes);
    assert_eq!(code(import(&mut web, both, "both")), RefusalCode::InvalidAttributes);

    let kek = make(&mut web, Attributes::WRAP, "kek");
    let target = make(&mut web, Attributes::SIGN.with(EXTRACTABLE), "target");
    let blob = wrap(&mut web, kek, target).unwrap();
    let decrypt = Decrypt { key: kek, mechanism: CipherMechanism::AesEcb, iv: &[], data: &blob };
    assert_eq!(web.refused(&decrypt), RefusalCode::KeyNotSuitable);
}

/// Tookan's first variant: the roles one after the other instead of at once.
#[test]
fn wrap_then_change_the_key_to_one_that_decrypts() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let kek = make(&mut web, Attributes::WRAP, "kek");
    let target = make(&mut web, Attributes::SIGN.with(EXTRACTABLE), "target");
    wrap(&mut web, kek, target).unwrap();
    for usage in [Attribute::Wrap, Attribute::Unwrap] {
        turn(&mut web, kek, usage, false).unwrap();
    }
    assert_eq!(code(turn(&mut web, kek, Attribute::Decrypt, true)), RefusalCode::AttributeFixed);
    assert_eq!(code(turn(&mut web, kek, Attribute::Wrap, true)), RefusalCode::AttributeFixed);
}

/// Clulow 3.3: encrypt a chosen key, and unwrap it as if it had been wrapped.
#[test]
fn encrypt_and_unwrap_with_one_key() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let both = Attributes::of(&[Attribute::Encrypt, Attribute::Unwrap]);
    assert_eq!(web.refused(&generate(KeyAlgorithm::Aes256, both, "both")), RefusalCode::InvalidAttributes);
    let kek = make(&mut web, Attributes::WRAP, "kek");
    let encrypt = Encrypt { key: kek, mechanism: CipherMechanism::AesEcb, iv: &[], data: &KNOWN };
    assert_eq!(web.refused(&encrypt), RefusalCode::KeyNotSuitable);
}

/// Tookan A2: one value under two handles, one of which wraps and one decrypts, by wrapping and unwrapping it.
#[test]
fn wrap_and_unwrap_into_conflicting_roles() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    // A key that wraps does not leave, so it has no second handle.
    let leaving = Attributes::WRAP.with(EXTRACTABLE);
    assert_eq!(web.refused(&generate(KeyAlgorithm::Aes256, leaving, "w")), RefusalCode::InvalidAttributes);
    let kek = make(&mut web, Attributes::WRAP, "kek");
    let other = make(&mut web, Attributes::WRAP, "other");
    assert_eq!(code(wrap(&mut web, other, kek)), RefusalCode::KeyNotSuitable);
    assert_eq!(code(turn(&mut web, kek, Attribute::Extractable, true)), RefusalCode::AttributeFixed);
    // And a key that leaves comes back as one that decrypts, but not as one that wraps.
    let data = make(&mut web, Attributes::ENCRYPT.with(EXTRACTABLE), "data");
    let blob = wrap(&mut web, kek, data).unwrap();
    unwrap(&mut web, kek, &blob, Attributes::ENCRYPT, "decrypts").unwrap();
    for usage in [Attributes::WRAP, Attributes::of(&[Attribute::Unwrap]), Attributes::DERIVE] {
        let asked = usage.with(Attributes::DEFAULT);
        assert_eq!(
            code(unwrap(&mut web, kek, &blob, asked, "wraps")),
            RefusalCode::InvalidAttributes,
            "{usage}"
        );
    }
}

/// Clulow 3.2: bring in a key that is known, wrap the target with it.
#[test]
fn wrap_with_a_key_that_is_known_outside() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let target = make(&mut web, Attributes::SIGN.with(EXTRACTABLE), "target");
    let known = import(&mut web, Attributes::WRAP, "known").unwrap().id;
    assert_eq!(code(wrap(&mut web, known, target)), RefusalCode::KeyNotSuitable);
    // An RSA key of which the attacker has the private half is no better.
    let pkcs8 = rsa::pkcs8::EncodePrivateKey::to_pkcs8_der(
        &rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap(),
    );
    let request = ImportKey {
        idempotency_key: random_key(),
        template: KeyTemplate::new("rsa".parse().unwrap(), Attributes::WRAP),
        key: PlainKey::Pkcs8(Secret::new(pkcs8.unwrap().as_bytes().to_vec())),
    };
    let wrapping = web.call(&request).unwrap().id;
    let mechanism = WrapMechanism::RsaOaep(Hash::Sha256);
    assert_eq!(web.refused(&WrapKey { wrapping, key: target, mechanism }), RefusalCode::KeyNotSuitable);
    // Nor does its user get round the admin who would have to trust it.
    assert_eq!(code(turn(&mut web, known, Attribute::Trusted, true)), RefusalCode::PermissionDenied);
    turn(&mut replica.client_of("root"), known, Attribute::Trusted, true).unwrap();
    wrap(&mut web, known, target).unwrap();
}

/// Clulow 3.4 and Tookan A3: take a key out and in again, with weaker attributes.
#[test]
fn unwrap_again_with_weaker_attributes() {
    let (_world, replica) = World::active();
    let (mut web, mut root) = (replica.client_of("web"), replica.client_of("root"));
    let kek = make(&mut web, Attributes::WRAP, "kek");
    let known = import(&mut web, Attributes::WRAP, "known").unwrap().id;
    let target = make(&mut web, Attributes::SIGN.with(EXTRACTABLE), "target");
    let blob = wrap(&mut web, kek, target).unwrap();
    let again = unwrap(&mut web, kek, &blob, Attributes::SIGN.with(EXTRACTABLE), "again").unwrap();
    assert!(again.attributes.has(Attribute::Sensitive), "it was not asked for, and is so");
    assert!(!again.attributes.has_any(Attributes::of(&[Attribute::Local, Attribute::AlwaysSensitive])));
    assert_eq!(code(wrap(&mut web, known, again.id)), RefusalCode::KeyNotSuitable);
    // What only trusted keys wrap stays so on its way through one.
    turn(&mut root, kek, Attribute::Trusted, true).unwrap();
    turn(&mut web, target, Attribute::WrapWithTrusted, true).unwrap();
    let plain = make(&mut web, Attributes::WRAP, "plain");
    assert_eq!(code(wrap(&mut web, plain, target)), RefusalCode::KeyNotSuitable);
    let blob = wrap(&mut web, kek, target).unwrap();
    let again = unwrap(&mut web, kek, &blob, Attributes::SIGN.with(EXTRACTABLE), "third").unwrap();
    assert!(again.attributes.has(Attribute::WrapWithTrusted));
    assert_eq!(code(wrap(&mut web, plain, again.id)), RefusalCode::KeyNotSuitable);
}

/// What an attribute protects, it protects for good: on the replica that was asked and on the other.
#[test]
fn change_attributes_back() {
    let (world, here) = World::active();
    let there = world.replica(1);
    let (mut web, mut other) = (here.client_of("web"), there.client_of("web"));
    let mut request = generate(KeyAlgorithm::Aes256, Attributes::SIGN.with(EXTRACTABLE), "target");
    request.template.attributes = request.template.attributes.set(Attribute::Sensitive, false);
    let target = web.call(&request).unwrap().id;
    let kek = make(&mut web, Attributes::WRAP, "kek");
    wrap(&mut other, kek, target).unwrap();
    for (attribute, on) in
        [(Attribute::Sensitive, true), (Attribute::WrapWithTrusted, true), (Attribute::Extractable, false)]
    {
        turn(&mut web, target, attribute, on).unwrap();
        there.follow();
        for client in [&mut web, &mut other] {
            assert_eq!(
                code(turn(client, target, attribute, !on)),
                RefusalCode::AttributeFixed,
                "{attribute}"
            );
        }
    }
    assert_eq!(code(wrap(&mut other, kek, target)), RefusalCode::KeyNotSuitable);
    for attribute in [Attribute::Local, Attribute::AlwaysSensitive, Attribute::NeverExtractable] {
        assert_eq!(code(turn(&mut web, target, attribute, true)), RefusalCode::AttributeFixed, "{attribute}");
    }
}

/// Clulow 2.3: make keys out of what was never wrapped, until one is weak. Every mechanism authenticates.
#[test]
fn conjure_keys_out_of_noise() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let aes = make(&mut web, Attributes::WRAP, "aes");
    let rsa = web.generate(KeyAlgorithm::Rsa2048, Attributes::WRAP, "rsa").id;
    for (unwrapping, mechanism, lengths) in [
        (aes, WrapMechanism::AesKw, &[24, 32, 40][..]),
        (aes, WrapMechanism::AesKwp, &[24, 32, 40]),
        (aes, WrapMechanism::AesGcm, &[28 + 16, 28 + 32]),
        (rsa, WrapMechanism::RsaOaep(Hash::Sha256), &[256]),
        (rsa, WrapMechanism::RsaAes(Hash::Sha256), &[256 + 24, 256 + 40]),
    ] {
        for (n, &length) in lengths.iter().cycle().take(50).enumerate() {
            let mut wrapped = vec![0; length];
            rand::fill(&mut wrapped).unwrap();
            let (idempotency_key, form, wrapped) = (random_key(), KeyForm::Aes, &wrapped[..]);
            let template = KeyTemplate::new(format!("conjured-{n}").parse().unwrap(), Attributes::SIGN);
            let unwrap = UnwrapKey { idempotency_key, unwrapping, mechanism, form, wrapped, template };
            assert_eq!(web.refused(&unwrap), RefusalCode::DecryptionFailed, "{mechanism} {length}");
        }
    }
}

/// Clulow 2.4: derive a key that is short enough to be guessed, then longer ones that begin with it; or one value twice.
#[test]
fn derive_keys_that_can_be_guessed_or_that_wrap() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let base = web.generate(KeyAlgorithm::GenericSecret(32), Attributes::DERIVE, "base").id;
    let mut derive = |algorithm, usage| {
        let mechanism = DeriveMechanism::Hkdf { hash: Hash::Sha256, salt: b"", info: b"" };
        let template = KeyTemplate::new("derived".parse().unwrap(), usage);
        web.call(&DeriveKey { idempotency_key: random_key(), key: base, mechanism, algorithm, template })
    };
    for length in 1..14 {
        let algorithm = KeyAlgorithm::GenericSecret(length);
        assert_eq!(code(derive(algorithm, Attributes::SIGN)), RefusalCode::WrongInput, "{length}");
    }
    for usage in [Attributes::WRAP, Attributes::DERIVE] {
        assert_eq!(code(derive(KeyAlgorithm::Aes256, usage)), RefusalCode::InvalidAttributes, "{usage}");
    }
    let made = derive(KeyAlgorithm::Aes256, Attributes::ENCRYPT).unwrap();
    assert!(made.attributes.has(Attribute::Sensitive) && !made.attributes.has(Attribute::Local));
}
