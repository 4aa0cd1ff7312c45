//! What keys do besides handshakes: every mechanism, seen by other implementations or by its inverse, and the
//! attributes that it takes.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_ASN1, UnparsedPublicKey};
use keycore_wire::{
    Attribute, Attributes, CipherMechanism, Decrypt, DeriveKey, DeriveMechanism, Digest, EcdsaEncoding,
    Encrypt, GenerateKey, Hash, ImportKey, KeyAlgorithm, KeyForm, KeyId, KeyTemplate, PlainKey, RefusalCode,
    Secret, SignData, SignMechanism, Signer, UnwrapKey, VerifyData, WrapKey, WrapMechanism,
};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::pkcs8::DecodePublicKey;
use rsa::{Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::harness::{Client, World, random_key};

const MESSAGE: &[u8] = b"what is to be signed";
const EXTRACTABLE: Attributes = Attributes::of(&[Attribute::Extractable]);

fn template(label: &str, usage: Attributes) -> KeyTemplate {
    KeyTemplate::new(label.parse().unwrap(), usage)
}

fn make(web: &mut Client, algorithm: KeyAlgorithm, usage: Attributes, label: &str) -> KeyId {
    let template = template(label, usage);
    web.call(&GenerateKey { idempotency_key: random_key(), algorithm, template }).unwrap().id
}

fn import(web: &mut Client, key: PlainKey, usage: Attributes, label: &str) -> KeyId {
    let template = template(label, usage);
    web.call(&ImportKey { idempotency_key: random_key(), template, key }).unwrap().id
}

fn spki(web: &mut Client, key: KeyId) -> Vec<u8> {
    let key = keycore_wire::KeySelector::Id(key);
    web.call(&keycore_wire::PublicKey { key }).unwrap().spki
}

fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha256 => Sha256::digest(message).to_vec(),
        Hash::Sha384 => Sha384::digest(message).to_vec(),
        Hash::Sha512 => Sha512::digest(message).to_vec(),
        Hash::Sha1 | Hash::Sha224 => panic!("not used here"),
    }
}

/// Signs message and digest, has the engine verify both, and gives them to `accept`.
fn signs(web: &mut Client, key: KeyId, mechanism: SignMechanism, hash: Option<Hash>, accept: &dyn Fn(&[u8])) {
    let digest = hash.map(|hash| digest(hash, MESSAGE));
    for (prehashed, data) in [(false, Some(MESSAGE)), (true, digest.as_deref())] {
        let Some(data) = data else { continue };
        let signature = web.call(&SignData { key, mechanism, prehashed, data }).unwrap().bytes;
        accept(&signature);
        let public = spki(web, key);
        for signer in [Signer::Key(key), Signer::PublicKey(&public)] {
            let mut verify = VerifyData { signer, mechanism, prehashed, data, signature: &signature };
            web.call(&verify).unwrap();
            let other = vec![7; data.len()];
            verify.data = &other;
            assert_eq!(web.refused(&verify), RefusalCode::WrongSignature, "{mechanism}");
        }
    }
}

#[test]
fn rsa_signatures_are_accepted_by_another_implementation() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = make(&mut web, KeyAlgorithm::Rsa2048, Attributes::SIGN, "rsa");
    let public = RsaPublicKey::from_public_key_der(&spki(&mut web, key)).unwrap();
    for (hash, pkcs1, pss) in [
        (Hash::Sha256, Pkcs1v15Sign::new::<Sha256>(), Pss::new::<Sha256>()),
        (Hash::Sha384, Pkcs1v15Sign::new::<Sha384>(), Pss::new::<Sha384>()),
        (Hash::Sha512, Pkcs1v15Sign::new::<Sha512>(), Pss::new::<Sha512>()),
    ] {
        let hashed = digest(hash, MESSAGE);
        let mut info = pkcs1.prefix.to_vec();
        info.extend_from_slice(&hashed);
        signs(&mut web, key, SignMechanism::RsaPkcs1(hash), Some(hash), &|signature| {
            public.verify(pkcs1.clone(), &hashed, signature).unwrap();
        });
        let pss = std::cell::Cell::new(Some(pss));
        let signature = web
            .call(&SignData { key, mechanism: SignMechanism::RsaPss(hash), prehashed: false, data: MESSAGE })
            .unwrap();
        public.verify(pss.take().unwrap(), &hashed, &signature.bytes).unwrap();
        signs(&mut web, key, SignMechanism::RsaPss(hash), Some(hash), &|_| {});

        let mechanism = SignMechanism::RsaPkcs1DigestInfo;
        let signature = web.call(&SignData { key, mechanism, prehashed: false, data: &info }).unwrap();
        public.verify(pkcs1.clone(), &hashed, &signature.bytes).unwrap();
        info.push(0);
        let trailing = SignData { key, mechanism, prehashed: false, data: &info };
        assert_eq!(web.refused(&trailing), RefusalCode::WrongInput);
    }
    for hash in [Hash::Sha1, Hash::Sha224] {
        for mechanism in [SignMechanism::RsaPkcs1(hash), SignMechanism::RsaPss(hash)] {
            let sign = SignData { key, mechanism, prehashed: false, data: MESSAGE };
            assert_eq!(web.refused(&sign), RefusalCode::MechanismNotOffered);
        }
    }
}

#[test]
fn ecdsa_takes_every_hash_on_every_curve() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let p256 = make(&mut web, KeyAlgorithm::P256, Attributes::SIGN, "p256");
    let p384 = make(&mut web, KeyAlgorithm::P384, Attributes::SIGN, "p384");
    let p521 = make(&mut web, KeyAlgorithm::P521, Attributes::SIGN, "p521");
    let k256 = make(&mut web, KeyAlgorithm::Secp256k1, Attributes::SIGN, "k256");
    let public_256 = p256::ecdsa::VerifyingKey::from_public_key_der(&spki(&mut web, p256)).unwrap();
    let public_384 = p384::ecdsa::VerifyingKey::from_public_key_der(&spki(&mut web, p384)).unwrap();
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        let hashed = digest(hash, MESSAGE);
        let der = SignMechanism::Ecdsa(hash, EcdsaEncoding::Der);
        let fixed = SignMechanism::Ecdsa(hash, EcdsaEncoding::Fixed);
        signs(&mut web, p256, der, Some(hash), &|signature| {
            let signature = p256::ecdsa::Signature::from_der(signature).unwrap();
            public_256.verify_prehash(&hashed, &signature).unwrap();
        });
        signs(&mut web, p256, fixed, Some(hash), &|signature| {
            let signature = p256::ecdsa::Signature::from_slice(signature).unwrap();
            public_256.verify_prehash(&hashed, &signature).unwrap();
        });
        signs(&mut web, p384, fixed, Some(hash), &|signature| {
            let signature = p384::ecdsa::Signature::from_slice(signature).unwrap();
            public_384.verify_prehash(&hashed, &signature).unwrap();
        });
        signs(&mut web, p521, fixed, Some(hash), &|signature| assert_eq!(signature.len(), 132));
        signs(&mut web, k256, der, Some(hash), &|_| {});
    }
    let point = spki(&mut web, p521);
    let point = &point[point.len() - 133..];
    let der = SignMechanism::Ecdsa(Hash::Sha512, EcdsaEncoding::Der);
    signs(&mut web, p521, der, Some(Hash::Sha512), &|signature| {
        UnparsedPublicKey::new(&ECDSA_P521_SHA512_ASN1, point).verify(MESSAGE, signature).unwrap();
    });
}

#[test]
fn ed25519_and_ml_dsa_sign_messages_only() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    for (algorithm, mechanism) in [
        (KeyAlgorithm::Ed25519, SignMechanism::Ed25519),
        (KeyAlgorithm::MlDsa44, SignMechanism::MlDsa),
        (KeyAlgorithm::MlDsa65, SignMechanism::MlDsa),
        (KeyAlgorithm::MlDsa87, SignMechanism::MlDsa),
    ] {
        let key = make(&mut web, algorithm, Attributes::SIGN, algorithm.name());
        signs(&mut web, key, mechanism, None, &|_| {});
        let prehashed = SignData { key, mechanism, prehashed: true, data: &[1; 32] };
        assert_eq!(web.refused(&prehashed), RefusalCode::MechanismNotOffered);
    }
}

#[test]
fn codes_are_those_of_the_standards() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    // RFC 4231, test case 2; RFC 4493, example 2.
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let jefe = PlainKey::GenericSecret(Secret::new(b"Jefe".to_vec()));
    let hmac = import(&mut web, jefe, Attributes::SIGN, "hmac");
    let aes = PlainKey::Aes(Secret::new(hex("2b7e151628aed2a6abf7158809cf4f3c")));
    let cmac = import(&mut web, aes, Attributes::SIGN, "cmac");
    for (key, mechanism, data, code) in [
        (
            hmac,
            SignMechanism::Hmac(Hash::Sha256),
            b"what do ya want for nothing?".to_vec(),
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ),
        (
            cmac,
            SignMechanism::AesCmac,
            hex("6bc1bee22e409f96e93d7e117393172a"),
            hex("070a16b46b4d4144f79bdd9dd04a287c"),
        ),
    ] {
        let data = &*data;
        let made = web.call(&SignData { key, mechanism, prehashed: false, data }).unwrap().bytes;
        assert_eq!(made, code);
        let signer = Signer::Key(key);
        web.call(&VerifyData { signer, mechanism, prehashed: false, data, signature: &code }).unwrap();
        let cut = VerifyData { signer, mechanism, prehashed: false, data, signature: &code[1..] };
        assert_eq!(web.refused(&cut), RefusalCode::WrongSignature);
    }
    let crossed =
        SignData { key: cmac, mechanism: SignMechanism::Hmac(Hash::Sha256), prehashed: false, data: b"" };
    assert_eq!(web.refused(&crossed), RefusalCode::MechanismNotOffered);
    assert_eq!(
        web.call(&Digest { hash: Hash::Sha1, data: b"abc" }).unwrap().bytes,
        hex("a9993e364706816aba3e25717850c26c9cd0d89d")
    );
}

#[test]
fn what_is_encrypted_decrypts_and_what_was_changed_does_not() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let rsa = make(&mut web, KeyAlgorithm::Rsa2048, Attributes::ENCRYPT, "rsa");
    let mut cases = vec![];
    for algorithm in KeyAlgorithm::AES {
        let aes = make(&mut web, algorithm, Attributes::ENCRYPT, algorithm.name());
        for mechanism in [
            CipherMechanism::AesEcb,
            CipherMechanism::AesCbc,
            CipherMechanism::AesCtr,
            CipherMechanism::AesCbcPad,
            CipherMechanism::AesGcm { aad: b"header" },
        ] {
            cases.push((aes, mechanism));
        }
    }
    for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        cases.push((rsa, CipherMechanism::RsaOaep { hash, label: b"label" }));
    }
    for (key, mechanism) in cases {
        let data = &[5; 48];
        let mut encrypt = || web.call(&Encrypt { key, mechanism, iv: &[], data }).unwrap();
        let (first, second) = (encrypt(), encrypt());
        assert_eq!(first == second, mechanism == CipherMechanism::AesEcb, "{mechanism}");
        let decrypt = Decrypt { key, mechanism, iv: &first.iv, data: &first.bytes };
        assert_eq!(web.call(&decrypt).unwrap().bytes.expose(), data, "{mechanism}");
        if matches!(mechanism, CipherMechanism::AesGcm { .. } | CipherMechanism::RsaOaep { .. }) {
            let mut changed = first.bytes.clone();
            changed[3] ^= 1;
            let decrypt = Decrypt { data: &changed, ..decrypt };
            assert_eq!(web.refused(&decrypt), RefusalCode::DecryptionFailed, "{mechanism}");
        }
    }
}

#[test]
fn a_gcm_nonce_is_never_the_callers_and_never_the_same() {
    let (world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = make(&mut web, KeyAlgorithm::Aes256, Attributes::ENCRYPT, "k");
    let mechanism = CipherMechanism::AesGcm { aad: &[] };
    let given = Encrypt { key, mechanism, iv: &[0; 12], data: b"m" };
    assert_eq!(web.refused(&given), RefusalCode::WrongInput);
    let sibling = world.replica(1);
    let mut seen = std::collections::HashSet::new();
    for mut client in [web, sibling.client_of("web")] {
        for _ in 0..100 {
            let made = client.call(&Encrypt { key, mechanism, iv: &[], data: b"m" }).unwrap();
            assert!(seen.insert(made.iv), "two encryptions have one nonce");
        }
    }
}

#[test]
fn pkcs1_decryption_takes_its_attribute_and_tells_nothing_of_the_padding() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let (mechanism, iv) = (CipherMechanism::RsaPkcs1, &[][..]);
    let without = make(&mut web, KeyAlgorithm::Rsa2048, Attributes::ENCRYPT, "without");
    let refused = Decrypt { key: without, mechanism, iv, data: &[1; 256] };
    assert_eq!(web.refused(&refused), RefusalCode::KeyNotSuitable);

    let usage = Attributes::ENCRYPT.set(Attribute::Pkcs1Decrypt, true);
    let key = make(&mut web, KeyAlgorithm::Rsa2048, usage, "with");
    let encrypted = web.call(&Encrypt { key, mechanism, iv, data: MESSAGE }).unwrap().bytes;
    let mut decrypt = |data: &[u8]| web.call(&Decrypt { key, mechanism, iv, data }).unwrap().bytes;
    assert_eq!(decrypt(&encrypted).expose(), MESSAGE);
    let mut lengths = std::collections::HashSet::new();
    for changed in 0..20 {
        let mut wrong = encrypted.clone();
        wrong[255] ^= changed + 1;
        let (first, again) = (decrypt(&wrong), decrypt(&wrong));
        assert_eq!(first.expose(), again.expose(), "a wrong padding decrypts to the same each time");
        assert_ne!(first.expose(), MESSAGE);
        lengths.insert(first.expose().len());
    }
    assert!(lengths.len() > 10, "lengths look as if they were chosen: {lengths:?}");
}

#[test]
fn both_sides_derive_the_same_key() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    for (n, algorithm) in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::P521].into_iter().enumerate()
    {
        let ours = make(&mut web, algorithm, Attributes::DERIVE, &format!("ours-{n}"));
        let theirs = make(&mut web, algorithm, Attributes::DERIVE, &format!("theirs-{n}"));
        let (our_public, their_public) = (spki(&mut web, ours), spki(&mut web, theirs));
        for (kdf, raw) in [("raw", true), ("x963", false)] {
            let mut codes = vec![];
            for (side, key, peer) in [("ours", ours, &their_public), ("theirs", theirs, &our_public)] {
                let mechanism = match raw {
                    true => DeriveMechanism::Ecdh { peer },
                    false => DeriveMechanism::EcdhX963 { peer, hash: Hash::Sha256, info: b"info" },
                };
                let derive = DeriveKey {
                    idempotency_key: random_key(),
                    key,
                    mechanism,
                    algorithm: KeyAlgorithm::GenericSecret(32),
                    template: template(&format!("{kdf}-{side}-{n}"), Attributes::SIGN),
                };
                let derived = web.call(&derive).unwrap();
                assert!(!derived.attributes.has(Attribute::Local), "its maker may know it");
                let mechanism = SignMechanism::Hmac(Hash::Sha256);
                let code = SignData { key: derived.id, mechanism, prehashed: false, data: MESSAGE };
                codes.push(web.call(&code).unwrap().bytes);
            }
            assert_eq!(codes[0], codes[1], "{algorithm} {kdf}");
        }
    }
    let base = make(&mut web, KeyAlgorithm::GenericSecret(32), Attributes::DERIVE, "base");
    let mechanism = DeriveMechanism::Hkdf { hash: Hash::Sha256, salt: b"", info: b"" };
    let algorithm = KeyAlgorithm::GenericSecret(13);
    let template = template("short", Attributes::SIGN);
    let short = DeriveKey { idempotency_key: random_key(), key: base, mechanism, algorithm, template };
    assert_eq!(web.refused(&short), RefusalCode::WrongInput, "13 bytes can be found by trying");
}

#[test]
fn wrapped_keys_come_back_and_do_what_they_did() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let aes = make(&mut web, KeyAlgorithm::Aes256, Attributes::WRAP, "aes");
    let rsa = make(&mut web, KeyAlgorithm::Rsa2048, Attributes::WRAP, "rsa");
    let usage = Attributes::SIGN.with(EXTRACTABLE);
    let secret = make(&mut web, KeyAlgorithm::GenericSecret(32), usage, "secret");
    let pair = make(&mut web, KeyAlgorithm::P256, usage, "pair");
    let hmac = SignMechanism::Hmac(Hash::Sha256);
    let code = |web: &mut Client, key| {
        web.call(&SignData { key, mechanism: hmac, prehashed: false, data: MESSAGE }).unwrap().bytes
    };
    let before = code(&mut web, secret);
    for (n, (wrapping, mechanism)) in [
        (aes, WrapMechanism::AesKw),
        (aes, WrapMechanism::AesKwp),
        (aes, WrapMechanism::AesGcm),
        (rsa, WrapMechanism::RsaOaep(Hash::Sha256)),
        (rsa, WrapMechanism::RsaAes(Hash::Sha256)),
    ]
    .into_iter()
    .enumerate()
    {
        let wrapped = web.call(&WrapKey { wrapping, key: secret, mechanism }).unwrap().bytes;
        let unwrap = UnwrapKey {
            idempotency_key: random_key(),
            unwrapping: wrapping,
            mechanism,
            form: KeyForm::GenericSecret,
            wrapped: &wrapped,
            template: template(&format!("unwrapped-{n}"), Attributes::SIGN),
        };
        let again = web.call(&unwrap).unwrap();
        assert_eq!(code(&mut web, again.id), before, "{mechanism}");
        let mut changed = wrapped.clone();
        changed[9] ^= 1;
        let template = template(&format!("changed-{n}"), Attributes::SIGN);
        let changed = UnwrapKey { idempotency_key: random_key(), wrapped: &changed, template, ..unwrap };
        assert_eq!(web.refused(&changed), RefusalCode::DecryptionFailed, "{mechanism}");
    }
    let mechanism = WrapMechanism::RsaAes(Hash::Sha384);
    let wrapped = web.call(&WrapKey { wrapping: rsa, key: pair, mechanism }).unwrap().bytes;
    let original = spki(&mut web, pair);
    web.call(&keycore_wire::DeleteKey { key: pair }).unwrap();
    let unwrap = UnwrapKey {
        idempotency_key: random_key(),
        unwrapping: rsa,
        mechanism,
        form: KeyForm::Pkcs8,
        wrapped: &wrapped,
        template: template("pair-again", Attributes::SIGN),
    };
    let again = web.call(&unwrap).unwrap().id;
    assert_eq!(spki(&mut web, again), original);
}

#[test]
fn every_use_takes_its_attribute() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let sign = make(&mut web, KeyAlgorithm::Aes256, Attributes::SIGN.with(EXTRACTABLE), "sign");
    let encrypt = make(&mut web, KeyAlgorithm::Aes256, Attributes::ENCRYPT, "encrypt");
    let wrap = make(&mut web, KeyAlgorithm::Aes256, Attributes::WRAP, "wrap");
    let derive = make(&mut web, KeyAlgorithm::Aes256, Attributes::DERIVE, "derive");
    let suits = |code| code != RefusalCode::KeyNotSuitable;
    let (iv, data) = (&[0; 16][..], &[0; 16][..]);
    for key in [sign, encrypt, wrap, derive] {
        let mechanism = SignMechanism::AesCmac;
        let made = web.call(&SignData { key, mechanism, prehashed: false, data });
        assert_eq!(made.err().is_none_or(|refusal| suits(refusal.code)), key == sign);
        let verify =
            VerifyData { signer: Signer::Key(key), mechanism, prehashed: false, data, signature: &[0; 16] };
        assert_eq!(suits(web.refused(&verify)), key == sign);
        let mechanism = CipherMechanism::AesCtr;
        let made = web.call(&Encrypt { key, mechanism, iv, data });
        assert_eq!(made.err().is_none_or(|refusal| suits(refusal.code)), key == encrypt);
        let made = web.call(&Decrypt { key, mechanism, iv, data });
        assert_eq!(made.err().is_none_or(|refusal| suits(refusal.code)), key == encrypt);
        let made = web.call(&WrapKey { wrapping: key, key: sign, mechanism: WrapMechanism::AesKw });
        assert_eq!(made.err().is_none_or(|refusal| suits(refusal.code)), key == wrap);
        let unwrap = UnwrapKey {
            idempotency_key: random_key(),
            unwrapping: key,
            mechanism: WrapMechanism::AesKw,
            form: KeyForm::Aes,
            wrapped: &[0; 24],
            template: template("x", Attributes::SIGN),
        };
        assert_eq!(suits(web.refused(&unwrap)), key == wrap);
        let derived = DeriveKey {
            idempotency_key: random_key(),
            key,
            mechanism: DeriveMechanism::Hkdf { hash: Hash::Sha256, salt: b"", info: b"" },
            algorithm: KeyAlgorithm::Aes128,
            template: template("derived", Attributes::SIGN),
        };
        let made = web.call(&derived);
        assert_eq!(made.err().is_none_or(|refusal| suits(refusal.code)), key == derive);
    }
    let kept = WrapKey { wrapping: wrap, key: encrypt, mechanism: WrapMechanism::AesKw };
    assert_eq!(web.refused(&kept), RefusalCode::KeyNotSuitable, "it is not extractable");
    let second_handle = UnwrapKey {
        idempotency_key: random_key(),
        unwrapping: wrap,
        mechanism: WrapMechanism::AesKw,
        form: KeyForm::Aes,
        wrapped: &[0; 24],
        template: template("y", Attributes::of(&[Attribute::Unwrap])),
    };
    assert_eq!(web.refused(&second_handle), RefusalCode::InvalidAttributes);
}

#[test]
fn one_half_of_a_purpose_is_not_the_other() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let (iv, data) = (&[0; 16][..], &[0; 16][..]);
    let mut one =
        |usage: Attribute| make(&mut web, KeyAlgorithm::Aes256, Attributes::of(&[usage]), usage.name());
    let (sign, verify) = (one(Attribute::Sign), one(Attribute::Verify));
    let (encrypt, decrypt) = (one(Attribute::Encrypt), one(Attribute::Decrypt));
    let (wrap, unwrap) = (one(Attribute::Wrap), one(Attribute::Unwrap));
    let target = make(&mut web, KeyAlgorithm::Aes256, Attributes::SIGN.with(EXTRACTABLE), "target");

    let mechanism = SignMechanism::AesCmac;
    let signing = |key| SignData { key, mechanism, prehashed: false, data };
    let code = web.call(&signing(sign)).unwrap().bytes;
    assert_eq!(web.refused(&signing(verify)), RefusalCode::KeyNotSuitable);
    let signer = Signer::Key(sign);
    let verifying = VerifyData { signer, mechanism, prehashed: false, data, signature: &code };
    assert_eq!(web.refused(&verifying), RefusalCode::KeyNotSuitable);

    let mechanism = CipherMechanism::AesCbc;
    web.call(&Encrypt { key: encrypt, mechanism, iv, data }).unwrap();
    assert_eq!(web.refused(&Encrypt { key: decrypt, mechanism, iv, data }), RefusalCode::KeyNotSuitable);
    web.call(&Decrypt { key: decrypt, mechanism, iv, data }).unwrap();
    assert_eq!(web.refused(&Decrypt { key: encrypt, mechanism, iv, data }), RefusalCode::KeyNotSuitable);

    let mechanism = WrapMechanism::AesKw;
    let wrapped = web.call(&WrapKey { wrapping: wrap, key: target, mechanism }).unwrap().bytes;
    let wrapping = WrapKey { wrapping: unwrap, key: target, mechanism };
    assert_eq!(web.refused(&wrapping), RefusalCode::KeyNotSuitable);
    let unwrapping = UnwrapKey {
        idempotency_key: random_key(),
        unwrapping: wrap,
        mechanism,
        form: KeyForm::Aes,
        wrapped: &wrapped,
        template: template("again", Attributes::SIGN),
    };
    assert_eq!(web.refused(&unwrapping), RefusalCode::KeyNotSuitable);
}

#[test]
fn the_audit_log_has_key_and_mechanism_of_each_use_and_no_data() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = make(&mut web, KeyAlgorithm::Aes256, Attributes::ENCRYPT, "k");
    let mechanism = CipherMechanism::AesGcm { aad: b"header" };
    web.call(&Encrypt { key, mechanism, iv: &[], data: b"top secret plaintext" }).unwrap();
    let last = replica.audit.map(&replica.engine, |entry| format!("{entry:?}")).pop().unwrap();
    assert!(last.contains("Encrypt") && last.contains("aes-gcm") && last.contains("\"k\""), "{last}");
    assert!(!last.contains("top secret"), "{last}");
}
