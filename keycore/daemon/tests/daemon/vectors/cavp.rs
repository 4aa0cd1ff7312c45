//! NIST's CAVP: excerpts of its files, under `tests/vectors/`.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use keycore_wire::{
    Attribute, Attributes, CipherMechanism, DeriveMechanism, Digest, EcdsaEncoding, Encrypt, Hash, KeyForm,
    RefusalCode, SignMechanism, Signer, UnwrapKey, WrapMechanism,
};

use super::der::{bit_string, element, named_curve, private_number, sequence};
use super::engine::{Engine, Form, fresh, judge};
use super::table::{Table, Verdict};
use super::wycheproof::derived;

macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../vectors/", $name)))
    };
}

type File = (&'static str, &'static str);

pub(super) fn run(engine: &mut Engine, table: &mut Table) {
    for (hash, file) in [
        (Hash::Sha1, file!("SHA1ShortMsg.rsp")),
        (Hash::Sha224, file!("SHA224ShortMsg.rsp")),
        (Hash::Sha256, file!("SHA256ShortMsg.rsp")),
        (Hash::Sha384, file!("SHA384ShortMsg.rsp")),
        (Hash::Sha512, file!("SHA512ShortMsg.rsp")),
    ] {
        digests(engine, table, hash, file);
    }
    for file in [file!("ECBMMT128.rsp"), file!("ECBMMT192.rsp"), file!("ECBMMT256.rsp")] {
        blocks(engine, table, CipherMechanism::AesEcb, file);
    }
    for file in [file!("CBCMMT128.rsp"), file!("CBCMMT192.rsp"), file!("CBCMMT256.rsp")] {
        blocks(engine, table, CipherMechanism::AesCbc, file);
    }
    for file in [file!("gcmDecrypt128.rsp"), file!("gcmDecrypt192.rsp"), file!("gcmDecrypt256.rsp")] {
        gcm(engine, table, file);
    }
    for file in [file!("KW_AD_128.txt"), file!("KW_AD_256.txt")] {
        key_unwrap(engine, table, WrapMechanism::AesKw, file);
    }
    for file in [file!("KWP_AD_128.txt"), file!("KWP_AD_256.txt")] {
        key_unwrap(engine, table, WrapMechanism::AesKwp, file);
    }
    ecdsa(engine, table, file!("ECDSASigVer.rsp"));
    rsa(engine, table, file!("SigVer15.rsp"));
    ecdh(engine, table, file!("KASValidityECC.fax"));
    counter_kdf(engine, table, file!("KDFCTR.rsp"));
}

/// One vector: its values, and the brackets above it.
struct Record {
    section: String,
    values: BTreeMap<String, String>,
}

impl Record {
    fn text(&self, name: &str) -> &str {
        self.values.get(name).map(String::as_str).unwrap_or_else(|| panic!("no {name}"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        HEXLOWER.decode(self.text(name).as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A number, filled to `length` bytes.
    fn number(&self, name: &str, length: usize) -> Vec<u8> {
        let digits = self.text(name).trim_start_matches('0');
        HEXLOWER.decode(format!("{digits:0>width$}", width = 2 * length).as_bytes()).unwrap()
    }

    fn must_fail(&self) -> bool {
        self.values.contains_key("FAIL")
            || self.values.get("Result").is_some_and(|result| result.starts_with('F'))
    }
}

/// Reads `name = value` lines: a blank line ends a vector, brackets say what it is about.
fn records(text: &str) -> Vec<Record> {
    let (mut section, mut records, mut values) = (String::new(), Vec::new(), BTreeMap::new());
    let mut after_bracket = false;
    for line in text.lines().chain([""]) {
        match line.trim() {
            "" if values.is_empty() => {}
            "" => records.push(Record { section: section.clone(), values: core::mem::take(&mut values) }),
            comment if comment.starts_with('#') => {}
            bracket if bracket.starts_with('[') => {
                if !after_bracket {
                    section.clear();
                }
                section.push_str(bracket);
                after_bracket = true;
                continue;
            }
            line => {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                values.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        after_bracket = false;
    }
    records
}

fn count(table: &mut Table, algorithm: &str, name: &str, verdicts: impl Iterator<Item = Verdict>) {
    for (id, verdict) in verdicts.enumerate() {
        table.count(algorithm, &format!("CAVP {name}"), id, verdict);
    }
}

fn digests(engine: &mut Engine, table: &mut Table, hash: Hash, (name, text): File) {
    let verdicts = records(text).into_iter().map(|record| {
        let length: usize = record.text("Len").parse().unwrap();
        let message = record.bytes("Msg");
        let made = engine.call(&Digest { hash, data: &message[..length / 8] }).unwrap().bytes;
        Verdict::of(made == record.bytes("MD"), "another digest")
    });
    count(table, "SHA-1, SHA-2", name, verdicts);
}

fn blocks(engine: &mut Engine, table: &mut Table, mechanism: CipherMechanism<'_>, (name, text): File) {
    let verdicts = records(text).into_iter().map(|record| {
        let key = engine.key(Form::Aes, Attributes::ENCRYPT, &record.bytes("KEY")).unwrap();
        let iv = if mechanism == CipherMechanism::AesCbc { record.bytes("IV") } else { Vec::new() };
        let (plain, cipher) = (record.bytes("PLAINTEXT"), record.bytes("CIPHERTEXT"));
        let encrypted = engine.call(&Encrypt { key, mechanism, iv: &iv, data: &plain }).unwrap().bytes;
        let decrypted = engine.decrypt(key, mechanism, &iv, &cipher).unwrap();
        Verdict::of(encrypted == cipher && decrypted == plain, "another result")
    });
    count(table, "AES-ECB, AES-CBC", name, verdicts);
}

fn gcm(engine: &mut Engine, table: &mut Table, (name, text): File) {
    let verdicts = records(text).into_iter().map(|record| {
        let key = engine.key(Form::Aes, Attributes::ENCRYPT, &record.bytes("Key")).unwrap();
        let sealed = [record.bytes("CT"), record.bytes("Tag")].concat();
        let aad = record.bytes("AAD");
        let given = engine.decrypt(key, CipherMechanism::AesGcm { aad: &aad }, &record.bytes("IV"), &sealed);
        let right = if record.must_fail() { Vec::new() } else { record.bytes("PT") };
        judge(&right, !record.must_fail(), given)
    });
    count(table, "AES-GCM decrypt", name, verdicts);
}

fn key_unwrap(engine: &mut Engine, table: &mut Table, mechanism: WrapMechanism, (name, text): File) {
    let usage = Attributes::of(&[Attribute::Unwrap]);
    let verdicts = records(text).into_iter().map(|record| {
        let unwrapping = engine.key(Form::Aes, usage, &record.bytes("K")).unwrap();
        let (template, wrapped) = (engine.template(Attributes::SIGN), record.bytes("C"));
        let unwrap = UnwrapKey {
            idempotency_key: fresh(),
            unwrapping,
            mechanism,
            form: KeyForm::GenericSecret,
            wrapped: &wrapped,
            template,
        };
        let made = engine.call(&unwrap);
        match record.must_fail() {
            true => judge(&true, false, made.map(|_| true)),
            false => judge(&true, true, made.map(|made| engine.holds(made.id, &record.bytes("P")))),
        }
    });
    count(table, "AES key unwrap", name, verdicts);
}

fn hash_of(text: &str) -> Hash {
    text.to_lowercase().replace('-', "").parse().unwrap()
}

/// Curve's name in CAVP's files, its OID and the length of its numbers.
fn curve(name: &str) -> (&'static [u8], usize) {
    match name {
        "P-256" => (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 32),
        "P-384" => (&[0x2b, 0x81, 0x04, 0x00, 0x22], 48),
        "P-521" => (&[0x2b, 0x81, 0x04, 0x00, 0x23], 66),
        other => panic!("{other} is not in the excerpt"),
    }
}

/// SubjectPublicKeyInfo of a point.
fn point_spki(oid: &[u8], x: &[u8], y: &[u8]) -> Vec<u8> {
    sequence(&[&named_curve(oid), &bit_string(&[&[4], x, y].concat())])
}

fn ecdsa(engine: &mut Engine, table: &mut Table, (name, text): File) {
    let verdicts = records(text).into_iter().map(|record| {
        let (name, hash) = record.section.trim_matches(['[', ']']).split_once(',').unwrap();
        let (oid, length) = curve(name);
        let number = |name| record.number(name, length);
        let spki = point_spki(oid, &number("Qx"), &number("Qy"));
        let signature = [number("R"), number("S")].concat();
        let mechanism = SignMechanism::Ecdsa(hash_of(hash), EcdsaEncoding::Fixed);
        let given = engine.verifies(Signer::PublicKey(&spki), mechanism, &record.bytes("Msg"), &signature);
        judge(&(), !record.must_fail(), given)
    });
    count(table, "ECDSA verify", name, verdicts);
}

fn rsa(engine: &mut Engine, table: &mut Table, (name, text): File) {
    let verdicts = records(text).into_iter().map(|record| {
        let hash = hash_of(record.text("SHAAlg"));
        if hash == Hash::Sha224 {
            return Verdict::NotApplicable("the hash is not offered");
        }
        let modulus = [&[0], &record.bytes("n")[..]].concat();
        let exponent = record.number("e", record.text("e").len().div_ceil(2));
        let key = sequence(&[&element(0x02, &modulus), &element(0x02, &exponent)]);
        let rsa_encryption = element(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
        let algorithm = sequence(&[&rsa_encryption, &element(0x05, &[])]);
        let spki = sequence(&[&algorithm, &bit_string(&key)]);
        let (signer, mechanism) = (Signer::PublicKey(&spki), SignMechanism::RsaPkcs1(hash));
        let given = engine.verifies(signer, mechanism, &record.bytes("Msg"), &record.bytes("S"));
        judge(&(), !record.must_fail(), given)
    });
    count(table, "RSA PKCS#1 v1.5 verify", name, verdicts);
}

fn ecdh(engine: &mut Engine, table: &mut Table, (name, text): File) {
    let verdicts = records(text).into_iter().map(|record| {
        if record.text("Result").contains("IUT's") {
            return Verdict::NotApplicable("the engine makes the public half from the private one");
        }
        let (oid, length) = match &record.section[..4] {
            "[EC " => curve("P-256"),
            "[ED " => curve("P-384"),
            _ => curve("P-521"),
        };
        let number = |name| record.number(name, length);
        let pkcs8 = private_number(oid, &number("dsIUT"));
        let key = engine.key(Form::Pkcs8, Attributes::DERIVE, &pkcs8).unwrap();
        let peer = point_spki(oid, &number("QsCAVSx"), &number("QsCAVSy"));
        let given = derived(engine, key, DeriveMechanism::Ecdh { peer: &peer }, length, &number("Z"));
        let right = if record.must_fail() {
            matches!(given, Ok(false) | Err(RefusalCode::WrongInput))
        } else {
            given == Ok(true)
        };
        Verdict::of(right, &format!("{given:?}"))
    });
    count(table, "ECDH", name, verdicts);
}

fn counter_kdf(engine: &mut Engine, table: &mut Table, (name, text): File) {
    let verdicts = records(text).into_iter().map(|record| {
        let prf = record.section.strip_prefix("[PRF=HMAC_").and_then(|rest| rest.split_once(']')).unwrap().0;
        let hash = hash_of(prf);
        if hash == Hash::Sha1 {
            return Verdict::NotApplicable("the counter KDF is not in aws-lc-rs with SHA-1");
        }
        let length = record.text("L").parse::<usize>().unwrap() / 8;
        let key = engine.key(Form::Secret, Attributes::DERIVE, &record.bytes("KI")).unwrap();
        let fixed_input = record.bytes("FixedInputData");
        let mechanism = DeriveMechanism::CounterKdf { hash, fixed_input: &fixed_input };
        judge(&true, true, derived(engine, key, mechanism, length, &record.bytes("KO")))
    });
    count(table, "SP 800-108 counter KDF", name, verdicts);
}
