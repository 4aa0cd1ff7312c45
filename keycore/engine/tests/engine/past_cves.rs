//! Mistakes that others have made, and that no other test is about. The list is in `docs/past-cves.md`.

use data_encoding::HEXLOWER;
use keycore_wire::{
    Attributes, EcdsaEncoding, GenerateKey, Hash, ImportKey, KeyAlgorithm, KeySelector, KeyTemplate,
    PlainKey, PublicKey, RefusalCode, Secret, SignMechanism, Signer, VerifyData,
};

use crate::harness::{World, random_key};

/// A P-256 key whose parameters are written out rather than named, by `openssl ecparam -param_enc explicit`: PKCS#8, and
/// SubjectPublicKeyInfo.
const EXPLICIT_PKCS8: &str = concat!(
    "308201790201003082010306072a8648ce3d02013081f7020101302c06072a8648ce3d0101022100ffffffff00000001",
    "000000000000000000000000ffffffffffffffffffffffff305b0420ffffffff00000001000000000000000000000000",
    "fffffffffffffffffffffffc04205ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b0315",
    "00c49d360886e704936a6678e1139d26b7819f7e900441046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0",
    "f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5022100ffffffff00",
    "000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101046d306b0201010420ef06ee145e13ed1ad8",
    "9bf1dfb1ca08807ef63569eaef969366395221a712789ba144034200049d337625d7199d4ace1947fbd71478ca1c8453",
    "730fc40131caa3bfcddb3c62e9e0435a6e31afb0eee18c16ef78702f502574877642a3a39a0ef977fd996af350",
);
const EXPLICIT_SPKI: &str = concat!(
    "3082014b3082010306072a8648ce3d02013081f7020101302c06072a8648ce3d0101022100ffffffff00000001000000",
    "000000000000000000ffffffffffffffffffffffff305b0420ffffffff00000001000000000000000000000000ffffff",
    "fffffffffffffffffc04205ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b031500c49d",
    "360886e704936a6678e1139d26b7819f7e900441046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a139",
    "45d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5022100ffffffff00000000",
    "ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101034200049d337625d7199d4ace1947fbd71478ca1c",
    "8453730fc40131caa3bfcddb3c62e9e0435a6e31afb0eee18c16ef78702f502574877642a3a39a0ef977fd996af350",
);

fn template(label: &str) -> KeyTemplate {
    KeyTemplate::new(label.parse().unwrap(), Attributes::SIGN)
}

/// CVE-2022-21449, "psychic signatures": r = s = 0, and other values that no signature has, verify for any message.
#[test]
fn signatures_of_zeros_are_none() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    for (algorithm, half) in [
        (KeyAlgorithm::P256, 32),
        (KeyAlgorithm::P384, 48),
        (KeyAlgorithm::P521, 66),
        (KeyAlgorithm::Secp256k1, 32),
    ] {
        let template = template(algorithm.name());
        let generate = GenerateKey { idempotency_key: random_key(), algorithm, template };
        let key = web.call(&generate).unwrap().id;
        let spki = web.call(&PublicKey { key: KeySelector::Id(key) }).unwrap().spki;
        let fixed = EcdsaEncoding::Fixed;
        let (mut zero_and_one, mut one_and_zero) = (vec![0; 2 * half], vec![0; 2 * half]);
        zero_and_one[2 * half - 1] = 1;
        one_and_zero[half - 1] = 1;
        let der = |content: &[u8]| [&[0x30, content.len().to_le_bytes()[0]], content].concat();
        for (encoding, signature) in [
            (fixed, vec![0; 2 * half]),
            (fixed, zero_and_one),
            (fixed, one_and_zero),
            (fixed, vec![0xff; 2 * half]),
            (EcdsaEncoding::Der, der(&[2, 1, 0, 2, 1, 0])),
            (EcdsaEncoding::Der, der(&[2, 1, 0, 2, 1, 1])),
            (EcdsaEncoding::Der, der(&[2, 1, 1, 2, 1, 0])),
            (EcdsaEncoding::Der, der(&[])),
        ] {
            let mechanism = SignMechanism::Ecdsa(Hash::Sha256, encoding);
            for signer in [Signer::Key(key), Signer::PublicKey(&spki)] {
                let (data, signature) = (&b"any message"[..], &signature[..]);
                let verify = VerifyData { signer, mechanism, prehashed: false, data, signature };
                assert_eq!(web.refused(&verify), RefusalCode::WrongSignature, "{algorithm} {signature:02x?}");
            }
        }
    }
}

/// CVE-2020-0601, "CurveBall": whoever may write the curve's parameters himself chooses the generator.
#[test]
fn curves_are_named_and_never_written_out() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let pkcs8 = HEXLOWER.decode(EXPLICIT_PKCS8.as_bytes()).unwrap();
    let key = PlainKey::Pkcs8(Secret::new(pkcs8));
    let import = ImportKey { idempotency_key: random_key(), template: template("explicit"), key };
    assert_eq!(web.refused(&import), RefusalCode::InvalidKey);

    let spki = HEXLOWER.decode(EXPLICIT_SPKI.as_bytes()).unwrap();
    let mechanism = SignMechanism::Ecdsa(Hash::Sha256, EcdsaEncoding::Fixed);
    let signer = Signer::PublicKey(&spki);
    let verify =
        VerifyData { signer, mechanism, prehashed: false, data: b"any message", signature: &[1; 64] };
    assert_eq!(web.refused(&verify), RefusalCode::InvalidKey);
}

/// CVE-2017-15361, "ROCA": both primes of this key are k·M + (65537^a mod M), M the product of the first 126 primes. It was
/// made for this test.
#[test]
fn a_key_of_rocas_form_is_not_imported() {
    let (_world, replica) = World::active();
    let mut web = replica.client_of("web");
    let key = PlainKey::Pkcs8(Secret::new(include_bytes!("roca.der").to_vec()));
    let import = ImportKey { idempotency_key: random_key(), template: template("weak"), key };
    let refusal = web.call(&import).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidKey);
    assert!(refusal.detail.contains("CVE-2017-15361"), "{refusal}");
}
