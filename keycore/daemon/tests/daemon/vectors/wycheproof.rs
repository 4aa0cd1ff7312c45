//! Project Wycheproof: what implementations were seen to get wrong.

use keycore_wire::{
    Attribute, Attributes, CipherMechanism, DeriveKey, DeriveMechanism, EcdsaEncoding, Encrypt, Hash,
    KeyAlgorithm, KeyForm, RefusalCode, SignData, SignMechanism, Signer, UnwrapKey, WrapMechanism,
};
use wycheproof::{EdwardsCurve, EllipticCurve, HashFunction, Mgf, TestResult};

use super::der::private_number;
use super::engine::{Engine, Form, fresh, judge};
use super::table::{Table, Verdict};

const NO_CURVE: &str = "the curve is not offered";
const NO_HASH: &str = "the hash is not offered";
const NO_CIPHER: &str = "the algorithm is not offered";
const NO_KEY_WRAP_192: &str = "AES-192 key wrap is not in aws-lc-rs";
const KEY_LENGTH: &str = "keys have 1 to 512 bytes";

pub(super) fn run(engine: &mut Engine, table: &mut Table) {
    ecdsa(engine, table);
    eddsa(engine, table);
    ml_dsa(engine, table);
    rsa_pkcs1_verify(engine, table);
    rsa_pss_verify(engine, table);
    rsa_oaep(engine, table);
    rsa_pkcs1_decrypt(engine, table);
    mac(engine, table);
    aead(engine, table);
    cbc(engine, table);
    key_wrap(engine, table);
    ecdh(engine, table);
    hkdf(engine, table);
}

fn hash_of(hash: HashFunction) -> Option<Hash> {
    match hash {
        HashFunction::Sha1 => Some(Hash::Sha1),
        HashFunction::Sha2_224 => Some(Hash::Sha224),
        HashFunction::Sha2_256 => Some(Hash::Sha256),
        HashFunction::Sha2_384 => Some(Hash::Sha384),
        HashFunction::Sha2_512 => Some(Hash::Sha512),
        _ => None,
    }
}

/// Verifies with the vector's public key. An acceptable signature may be taken or not.
fn verify(
    engine: &mut Engine,
    spki: &[u8],
    mechanism: SignMechanism,
    (message, signature, result): (&[u8], &[u8], TestResult),
) -> Verdict {
    let given = engine.verifies(Signer::PublicKey(spki), mechanism, message, signature);
    match result {
        TestResult::Acceptable => judge(&(), given.is_ok(), given),
        _ => judge(&(), result == TestResult::Valid, given),
    }
}

fn ecdsa(engine: &mut Engine, table: &mut Table) {
    use wycheproof::ecdsa::{TestName, TestSet};
    for name in TestName::all() {
        let file = format!("{name:?}");
        let encoding = if file.ends_with("P1363") { EcdsaEncoding::Fixed } else { EcdsaEncoding::Der };
        for group in TestSet::load(name).unwrap().test_groups {
            let offered = matches!(
                group.key.curve,
                EllipticCurve::Secp256r1
                    | EllipticCurve::Secp384r1
                    | EllipticCurve::Secp521r1
                    | EllipticCurve::Secp256k1
            );
            for test in group.tests {
                let verdict = match hash_of(group.hash) {
                    _ if !offered => Verdict::NotApplicable(NO_CURVE),
                    None => Verdict::NotApplicable(NO_HASH),
                    Some(_) if file.contains("Bitcoin") => {
                        Verdict::NotApplicable("Bitcoin's low s is no rule of ECDSA")
                    }
                    Some(hash) => {
                        let mechanism = SignMechanism::Ecdsa(hash, encoding);
                        verify(engine, &group.der, mechanism, (&test.msg, &test.sig, test.result))
                    }
                };
                table.count("ECDSA verify", &file, test.tc_id, verdict);
            }
        }
    }
}

fn eddsa(engine: &mut Engine, table: &mut Table) {
    use wycheproof::eddsa::{TestName, TestSet};
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = match group.key.curve {
                    EdwardsCurve::Ed25519 => {
                        let vector = (&**test.msg, &**test.sig, test.result);
                        verify(engine, &group.der, SignMechanism::Ed25519, vector)
                    }
                    EdwardsCurve::Ed448 => Verdict::NotApplicable(NO_CURVE),
                };
                table.count("EdDSA verify", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

fn ml_dsa(engine: &mut Engine, table: &mut Table) {
    use wycheproof::mldsa_verify::{TestName, TestSet};
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = if test.ctx.as_ref().is_some_and(|context| !context.is_empty()) {
                    Verdict::NotApplicable("contexts are not offered")
                } else {
                    let vector = (&**test.msg, &**test.sig, test.result);
                    verify(engine, &group.der, SignMechanism::MlDsa, vector)
                };
                table.count("ML-DSA verify", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

fn rsa_pkcs1_verify(engine: &mut Engine, table: &mut Table) {
    use wycheproof::rsa_pkcs1_verify::{TestName, TestSet};
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = match hash_of(group.hash) {
                    None | Some(Hash::Sha224) => Verdict::NotApplicable(NO_HASH),
                    Some(hash) => {
                        let vector = (&**test.msg, &**test.sig, test.result);
                        verify(engine, &group.der, SignMechanism::RsaPkcs1(hash), vector)
                    }
                };
                table.count("RSA PKCS#1 v1.5 verify", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

fn rsa_pss_verify(engine: &mut Engine, table: &mut Table) {
    use wycheproof::rsa_pss_verify::{TestName, TestSet};
    for name in TestName::all() {
        let file = format!("{name:?}");
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = match hash_of(group.hash) {
                    _ if file.contains("WithParams") => {
                        Verdict::NotApplicable("public keys that name PSS's parameters are not offered")
                    }
                    None | Some(Hash::Sha1 | Hash::Sha224) => Verdict::NotApplicable(NO_HASH),
                    Some(hash)
                        if group.mgf != Mgf::Mgf1
                            || group.mgf_hash != Some(group.hash)
                            || group.salt_size != hash.digest_len() =>
                    {
                        Verdict::NotApplicable("MGF1 and salt length are always the hash's")
                    }
                    Some(hash) => {
                        let vector = (&**test.msg, &**test.sig, test.result);
                        verify(engine, &group.der, SignMechanism::RsaPss(hash), vector)
                    }
                };
                table.count("RSA-PSS verify", &file, test.tc_id, verdict);
            }
        }
    }
}

fn rsa_oaep(engine: &mut Engine, table: &mut Table) {
    use wycheproof::rsa_oaep::{TestName, TestSet};
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = match hash_of(group.hash) {
                    None | Some(Hash::Sha224) => Verdict::NotApplicable(NO_HASH),
                    Some(_) if group.mgf_hash != group.hash => {
                        Verdict::NotApplicable("MGF1 is always with the same hash")
                    }
                    Some(hash) => match engine.key(Form::Pkcs8, Attributes::ENCRYPT, &group.pkcs8) {
                        Ok(key) => {
                            let mechanism = CipherMechanism::RsaOaep { hash, label: &test.label };
                            let given = engine.decrypt(key, mechanism, &[], &test.ct);
                            judge(&test.pt.to_vec(), test.result != TestResult::Invalid, given)
                        }
                        Err(RefusalCode::InvalidKey) => {
                            Verdict::NotApplicable("RSA keys have 2048, 3072 or 4096 bits and exponent 65537")
                        }
                        Err(other) => Verdict::Failed(format!("the key was refused: {other:?}")),
                    },
                };
                table.count("RSA-OAEP decrypt", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

/// A wrong padding decrypts to something else (implicit rejection), never to the vector's message.
fn rsa_pkcs1_decrypt(engine: &mut Engine, table: &mut Table) {
    use wycheproof::rsa_pkcs1_decrypt::{TestName, TestSet};
    let usage = Attributes::ENCRYPT.with(Attributes::of(&[Attribute::Pkcs1Decrypt]));
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = engine.key(Form::Pkcs8, usage, &group.pkcs8).unwrap();
            for test in group.tests {
                let given = engine.decrypt(key, CipherMechanism::RsaPkcs1, &[], &test.ct);
                let verdict = match given {
                    Ok(given) if test.result == TestResult::Invalid => {
                        Verdict::of(test.pt.is_empty() || given != **test.pt, "a wrong padding was accepted")
                    }
                    given => judge(&test.pt.to_vec(), test.result != TestResult::Invalid, given),
                };
                table.count("RSA PKCS#1 v1.5 decrypt", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

fn mac(engine: &mut Engine, table: &mut Table) {
    use wycheproof::mac::{TestName, TestSet};
    for name in TestName::all() {
        let mechanism = match name {
            TestName::AesCmac => Some(SignMechanism::AesCmac),
            TestName::HmacSha1 => Some(SignMechanism::Hmac(Hash::Sha1)),
            TestName::HmacSha224 => Some(SignMechanism::Hmac(Hash::Sha224)),
            TestName::HmacSha256 => Some(SignMechanism::Hmac(Hash::Sha256)),
            TestName::HmacSha384 => Some(SignMechanism::Hmac(Hash::Sha384)),
            TestName::HmacSha512 => Some(SignMechanism::Hmac(Hash::Sha512)),
            _ => None,
        };
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = match mechanism {
                    None => Verdict::NotApplicable(NO_CIPHER),
                    Some(mechanism) => {
                        code(engine, mechanism, (&test.key, &test.msg, &test.tag), test.result)
                    }
                };
                table.count("HMAC, CMAC", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

/// Makes the code and compares its beginning with the vector's, and has a whole one verified.
fn code(
    engine: &mut Engine,
    mechanism: SignMechanism,
    (key, data, tag): (&[u8], &[u8], &[u8]),
    result: TestResult,
) -> Verdict {
    let form = if mechanism == SignMechanism::AesCmac { Form::Aes } else { Form::Secret };
    let valid = result != TestResult::Invalid;
    let key = match engine.key(form, Attributes::SIGN, key) {
        Ok(key) => key,
        Err(code) => return judge(&(), valid, Err(code)),
    };
    let made = engine.call(&SignData { key, mechanism, prehashed: false, data }).unwrap().bytes;
    if made.starts_with(tag) != valid {
        return Verdict::Failed("another code".to_owned());
    }
    if made.len() != tag.len() {
        return Verdict::Passed;
    }
    judge(&(), valid, engine.verifies(Signer::Key(key), mechanism, data, tag))
}

fn aead(engine: &mut Engine, table: &mut Table) {
    use wycheproof::aead::{TestName, TestSet};
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = if name != TestName::AesGcm {
                    Verdict::NotApplicable(NO_CIPHER)
                } else if group.nonce_size != 96 {
                    Verdict::NotApplicable("nonces of AES-GCM have 12 bytes")
                } else {
                    let key = engine.key(Form::Aes, Attributes::ENCRYPT, &test.key).unwrap();
                    let sealed = [&test.ct[..], &test.tag[..]].concat();
                    let given =
                        engine.decrypt(key, CipherMechanism::AesGcm { aad: &test.aad }, &test.nonce, &sealed);
                    judge(&test.pt.to_vec(), test.result != TestResult::Invalid, given)
                };
                table.count("AES-GCM decrypt", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

fn cbc(engine: &mut Engine, table: &mut Table) {
    use wycheproof::cipher::{TestName, TestSet};
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = if format!("{name:?}").starts_with("AesCbc") {
                    let key = engine.key(Form::Aes, Attributes::ENCRYPT, &test.key).unwrap();
                    let mechanism = CipherMechanism::AesCbcPad;
                    let valid = test.result != TestResult::Invalid;
                    let given = engine.decrypt(key, mechanism, &test.nonce, &test.ct);
                    let encrypt = Encrypt { key, mechanism, iv: &test.nonce, data: &test.pt };
                    if valid && engine.call(&encrypt).unwrap().bytes != **test.ct {
                        Verdict::Failed("another ciphertext".to_owned())
                    } else {
                        judge(&test.pt.to_vec(), valid, given)
                    }
                } else {
                    Verdict::NotApplicable(NO_CIPHER)
                };
                table.count("AES-CBC-PAD", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

/// Unwraps only: a key that was brought in never wraps. That the engine's wrapping is the inverse, its own tests show.
fn key_wrap(engine: &mut Engine, table: &mut Table) {
    use wycheproof::keywrap::{TestName, TestSet};
    let usage = Attributes::of(&[Attribute::Unwrap]);
    for name in TestName::all() {
        let mechanism = match name {
            TestName::AesKeyWrap => Some(WrapMechanism::AesKw),
            TestName::AesKeyWrapWithPadding => Some(WrapMechanism::AesKwp),
            _ => None,
        };
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let valid = test.result != TestResult::Invalid;
                let verdict = match mechanism {
                    None => Verdict::NotApplicable(NO_CIPHER),
                    Some(_) if group.key_size == 192 => Verdict::NotApplicable(NO_KEY_WRAP_192),
                    Some(_) if valid && !(1..=512).contains(&test.pt.len()) => {
                        Verdict::NotApplicable(KEY_LENGTH)
                    }
                    Some(mechanism) => {
                        let unwrapping = engine.key(Form::Aes, usage, &test.key).unwrap();
                        let template = engine.template(Attributes::SIGN);
                        let unwrap = UnwrapKey {
                            idempotency_key: fresh(),
                            unwrapping,
                            mechanism,
                            form: KeyForm::GenericSecret,
                            wrapped: &test.ct,
                            template,
                        };
                        let given = engine.call(&unwrap).map(|made| engine.holds(made.id, &test.pt));
                        let valid = match test.result {
                            TestResult::Acceptable => given.is_ok(),
                            result => result == TestResult::Valid,
                        };
                        judge(&true, valid, given)
                    }
                };
                table.count("AES key unwrap", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

fn ecdh(engine: &mut Engine, table: &mut Table) {
    use wycheproof::ecdh::{TestName, TestSet};
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            let curve = match group.curve {
                EllipticCurve::Secp256r1 => Some((&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07][..], 32)),
                EllipticCurve::Secp384r1 => Some((&[0x2b, 0x81, 0x04, 0x00, 0x22][..], 48)),
                EllipticCurve::Secp521r1 => Some((&[0x2b, 0x81, 0x04, 0x00, 0x23][..], 66)),
                _ => None,
            };
            for test in group.tests {
                let verdict = match curve {
                    None => Verdict::NotApplicable(NO_CURVE),
                    Some((oid, length)) => {
                        let pkcs8 = private_number(oid, &filled(&test.private_key, length));
                        let key = engine.key(Form::Pkcs8, Attributes::DERIVE, &pkcs8).unwrap();
                        let mechanism = DeriveMechanism::Ecdh { peer: &test.public_key };
                        let given = derived(engine, key, mechanism, length, &test.shared_secret);
                        match test.result {
                            TestResult::Acceptable => judge(&true, given.is_ok(), given),
                            result => judge(&true, result == TestResult::Valid, given),
                        }
                    }
                };
                table.count("ECDH", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

fn hkdf(engine: &mut Engine, table: &mut Table) {
    use wycheproof::hkdf::{TestName, TestSet};
    for name in TestName::all() {
        let hash = match name {
            TestName::HkdfSha1 => Hash::Sha1,
            TestName::HkdfSha256 => Hash::Sha256,
            TestName::HkdfSha384 => Hash::Sha384,
            TestName::HkdfSha512 => Hash::Sha512,
        };
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verdict = if (14..=512).contains(&test.size) {
                    let key = engine.key(Form::Secret, Attributes::DERIVE, &test.ikm).unwrap();
                    let mechanism = DeriveMechanism::Hkdf { hash, salt: &test.salt, info: &test.info };
                    let given = derived(engine, key, mechanism, test.size, &test.okm);
                    judge(&true, test.result != TestResult::Invalid, given)
                } else {
                    Verdict::NotApplicable("derived keys have 14 to 512 bytes")
                };
                table.count("HKDF", &format!("{name:?}"), test.tc_id, verdict);
            }
        }
    }
}

/// Derives a secret; whether it is the expected one.
pub(super) fn derived(
    engine: &mut Engine,
    key: keycore_wire::KeyId,
    mechanism: DeriveMechanism<'_>,
    length: usize,
    expected: &[u8],
) -> Result<bool, RefusalCode> {
    let template = engine.template(Attributes::SIGN);
    let algorithm = KeyAlgorithm::GenericSecret(u16::try_from(length).unwrap());
    let derive = DeriveKey { idempotency_key: fresh(), key, mechanism, algorithm, template };
    let made = engine.call(&derive)?;
    Ok(engine.holds(made.id, expected))
}

/// A number as long as its field; Wycheproof writes it shorter or with zeros before.
fn filled(number: &[u8], length: usize) -> Vec<u8> {
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    [&vec![0; length - number.len()], number].concat()
}
