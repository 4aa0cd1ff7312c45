use aws_lc_rs::agreement::{PrivateKey, X25519};
use keycore_wire::SignatureScheme::{EcdsaP256Sha256, RsaPkcs1Sha256, RsaPssSha256};

use super::*;

fn certificate_verify(context: &[u8], hash: usize) -> Vec<u8> {
    [&[b' '; 64], context, &[0], &vec![0xab; hash]].concat()
}

fn server_key_exchange(group: u16, point: &[u8]) -> Vec<u8> {
    let [high, low] = group.to_be_bytes();
    let length = u8::try_from(point.len()).unwrap();
    [&[1; 56][..], DOWNGRADE_SENTINEL, &[NAMED_CURVE, high, low, length], point].concat()
}

/// The public half of a new key, as a server sends it.
fn point_of(curve: &'static Algorithm) -> Vec<u8> {
    PrivateKey::generate(curve).unwrap().compute_public_key().unwrap().as_ref().to_vec()
}

#[test]
fn accepts_tls13_server_handshakes() {
    for hash in [32, 48] {
        let message = certificate_verify(b"TLS 1.3, server CertificateVerify", hash);
        for scheme in [EcdsaP256Sha256, RsaPssSha256] {
            assert_eq!(
                TlsMessage::parse(TlsEnd::Server, &message, scheme),
                Ok(TlsMessage::Tls13CertificateVerify)
            );
        }
        assert_eq!(TlsMessage::parse(TlsEnd::Server, &message, RsaPkcs1Sha256), Err(NotTls::Pkcs1InTls13));
    }
}

#[test]
fn accepts_tls12_server_key_exchanges_on_each_group() {
    for (group, curve) in [(23, &ECDH_P256), (24, &ECDH_P384), (25, &ECDH_P521), (29, &X25519)] {
        let point = point_of(curve);
        for scheme in [EcdsaP256Sha256, RsaPssSha256, RsaPkcs1Sha256] {
            let message = server_key_exchange(group, &point);
            assert_eq!(
                TlsMessage::parse(TlsEnd::Server, &message, scheme),
                Ok(TlsMessage::Tls12ServerKeyExchange)
            );
        }
    }
}

#[test]
fn refuses_everything_near_a_tls13_handshake() {
    let good = certificate_verify(CONTEXT, 32);
    let mut seen = vec![
        certificate_verify(b"TLS 1.3, client CertificateVerify", 32),
        certificate_verify(b"TLS 1.3, server CertificateVerifz", 32),
        certificate_verify(CONTEXT, 0),
        certificate_verify(CONTEXT, 20),
        certificate_verify(CONTEXT, 31),
        certificate_verify(CONTEXT, 33),
        certificate_verify(CONTEXT, 47),
        certificate_verify(CONTEXT, 49),
        certificate_verify(CONTEXT, 64),
        good[1..].to_vec(),
        [b" ", &good[..]].concat(),
        [&good[..], &[0]].concat(),
        good[..good.len() - 1].to_vec(),
    ];
    // Each bit of the fixed part counts.
    for byte in 0..PADDING + CONTEXT.len() + 1 {
        let mut flipped = good.clone();
        flipped[byte] ^= 1;
        seen.push(flipped);
    }
    for message in seen {
        assert!(TlsMessage::parse(TlsEnd::Server, &message, EcdsaP256Sha256).is_err(), "{message:02x?}");
    }
}

#[test]
fn refuses_everything_near_a_tls12_key_exchange() {
    let point = point_of(&ECDH_P256);
    let good = server_key_exchange(23, &point);
    let with = |at: usize, value: u8| {
        let mut changed = good.clone();
        changed[at] = value;
        changed
    };
    let mut another_form = point.clone();
    another_form[0] = 2;
    let mut beside_the_curve = point.clone();
    beside_the_curve[64] ^= 1;
    let mut no_sentinel = good.clone();
    no_sentinel[56..64].copy_from_slice(b"DOWNGRD\x00");
    for message in [
        no_sentinel,
        with(64, 1),
        with(64, 2),
        with(66, 22),
        with(66, 24),
        with(67, 64),
        with(67, 66),
        server_key_exchange(23, &another_form),
        server_key_exchange(23, &point[..33]),
        server_key_exchange(23, &point[..63]),
        server_key_exchange(23, &beside_the_curve),
        server_key_exchange(23, &point_of(&ECDH_P384)),
        server_key_exchange(29, &[5; 31]),
        server_key_exchange(29, &[5; 33]),
        server_key_exchange(30, &[5; 56]),
        server_key_exchange(256, &[5; 32]),
        [&good[..], &[0]].concat(),
        good[1..].to_vec(),
        good[..good.len() - 1].to_vec(),
        good[..68].to_vec(),
        good[..64].to_vec(),
    ] {
        assert!(TlsMessage::parse(TlsEnd::Server, &message, EcdsaP256Sha256).is_err(), "{message:02x?}");
    }
}

#[test]
fn refuses_what_else_people_sign() {
    let token = b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9".to_vec();
    let tbs_certificate =
        [&[0x30u8, 0x82, 0x01, 0x00, 0xa0, 0x03, 0x02, 0x01, 0x02][..], &[0x42; 251]].concat();
    for message in [
        vec![],
        vec![0; 32],
        vec![0; 48],
        vec![0; 64],
        vec![b' '; 64],
        vec![b' '; 512],
        token,
        tbs_certificate,
    ] {
        assert_eq!(TlsMessage::parse(TlsEnd::Server, &message, EcdsaP256Sha256), Err(NotTls::Unrecognised));
    }
}

/// The randoms and the point of a key exchange are the proxy's to choose: a whole certificate fits in, with the sentinel
/// and the curve inside of a name, if any bytes are a point.
#[test]
fn refuses_a_certificate_in_the_shape_of_a_key_exchange() {
    let element = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        let header = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
        [&header, content].concat()
    };
    let fixed = [DOWNGRADE_SENTINEL, &[NAMED_CURVE, 0, 24, 97, UNCOMPRESSED]].concat();
    let name = [&[b'x'; 25][..], &fixed, &[b'x'; 18]].concat();
    let pair = element(0x30, &[&[6, 3, 0x55, 4, 3][..], &element(0x14, &name)].concat());
    let ed25519 = element(0x30, &[6, 3, 0x2b, 0x65, 0x70]);
    let certificate = element(
        0x30,
        &[
            vec![2, 1, 9],
            element(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]),
            element(0x30, &element(0x31, &pair)),
            element(0x30, &[element(0x17, b"260101000000Z"), element(0x17, b"270101000000Z")].concat()),
            element(0x30, &[]),
            element(0x30, &[ed25519, element(3, &[&[0], &[0xab; 32][..]].concat())].concat()),
        ]
        .concat(),
    );
    let shape = server_key_exchange(24, &point_of(&ECDH_P384));
    assert_eq!((certificate.len(), &certificate[56..69]), (shape.len(), &shape[56..69]));
    assert_eq!(TlsMessage::parse(TlsEnd::Server, &certificate, EcdsaP256Sha256), Err(NotTls::Unrecognised));
}

proptest::proptest! {
    #[test]
    fn never_panics_and_never_takes_chance_bytes(message in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        proptest::prop_assert!(TlsMessage::parse(TlsEnd::Server, &message, EcdsaP256Sha256).is_err());
    }
}

#[test]
fn a_client_signs_its_own_tls13_handshake_and_nothing_near_it() {
    let parse = |message: &[u8]| TlsMessage::parse(TlsEnd::Client, message, EcdsaP256Sha256);
    for hash in [32, 48] {
        let message = certificate_verify(CLIENT_CONTEXT, hash);
        for scheme in [EcdsaP256Sha256, RsaPssSha256] {
            let parsed = TlsMessage::parse(TlsEnd::Client, &message, scheme);
            assert_eq!(parsed, Ok(TlsMessage::Tls13CertificateVerify));
        }
        assert_eq!(TlsMessage::parse(TlsEnd::Client, &message, RsaPkcs1Sha256), Err(NotTls::Pkcs1InTls13));
        assert!(TlsMessage::parse(TlsEnd::Server, &message, EcdsaP256Sha256).is_err());
    }
    for hash in [0, 20, 31, 33, 47, 49, 64] {
        assert_eq!(parse(&certificate_verify(CLIENT_CONTEXT, hash)), Err(NotTls::TranscriptHash));
    }
    let good = certificate_verify(CLIENT_CONTEXT, 32);
    for byte in 0..PADDING + CLIENT_CONTEXT.len() + 1 {
        let mut flipped = good.clone();
        flipped[byte] ^= 1;
        assert_eq!(parse(&flipped), Err(NotTls::NotAClients), "byte {byte}");
    }
    let servers = [certificate_verify(CONTEXT, 32), server_key_exchange(23, &point_of(&ECDH_P256))];
    for message in servers {
        assert_eq!(parse(&message), Err(NotTls::NotAClients));
    }
    // A TLS 1.2 client's: handshake messages, beginning with its hello.
    assert_eq!(parse(&[&[1, 0, 0, 60, 3, 3][..], &[7; 300]].concat()), Err(NotTls::NotAClients));
}
