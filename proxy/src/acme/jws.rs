//! What ACME signs (RFC 7515, RFC 7517, RFC 7638): by ES256, with a key that is elsewhere.

use aws_lc_rs::{digest, hmac};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use x509_parser::asn1_rs::{FromDer, Integer, Sequence};

/// The public half of an account's key: P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jwk {
    x: String,
    y: String,
}

/// Who signs, as the authority is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signatory<'a> {
    /// A key that it has not seen.
    Key(&'a Jwk),
    /// An account that it knows.
    Account(&'a str),
}

/// What is to be signed, and what it becomes then.
pub(super) struct Unsigned {
    protected: String,
    payload: String,
}

/// Length of a coordinate on P-256, in bytes.
const COORDINATE: usize = 32;

/// A SubjectPublicKeyInfo of P-256 up to the point's coordinates (RFC 5480).
const P256_SPKI: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

impl Jwk {
    /// Of a DER SubjectPublicKeyInfo; `None` if that is not a P-256 key's.
    pub(super) fn of_spki(spki: &[u8]) -> Option<Self> {
        let point = spki.strip_prefix(&P256_SPKI).filter(|point| point.len() == 2 * COORDINATE)?;
        let (x, y) = point.split_at(COORDINATE);
        Some(Self { x: BASE64URL_NOPAD.encode(x), y: BASE64URL_NOPAD.encode(y) })
    }

    fn value(&self) -> Value {
        json!({ "crv": "P-256", "kty": "EC", "x": self.x, "y": self.y })
    }

    /// RFC 7638, with SHA-256, in base64url.
    pub(super) fn thumbprint(&self) -> String {
        // In this order, without space: the coordinates have no character that JSON would escape.
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, self.x, self.y);
        BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
    }

    /// Says that the account of this key is the one that the authority calls `kid` (RFC 8555, section 7.3.4).
    pub(super) fn external_binding(&self, kid: &str, mac_key: &[u8], url: &str) -> Value {
        let protected = encoded(&json!({ "alg": "HS256", "kid": kid, "url": url }));
        let payload = encoded(&self.value());
        let key = hmac::Key::new(hmac::HMAC_SHA256, mac_key);
        let mac = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        let signature = BASE64URL_NOPAD.encode(mac.as_ref());
        json!({ "protected": protected, "payload": payload, "signature": signature })
    }
}

impl Unsigned {
    /// A request to `url`; without a payload, it only reads (RFC 8555, section 6.3).
    pub(super) fn new(signatory: Signatory<'_>, nonce: &str, url: &str, payload: Option<&Value>) -> Self {
        let mut protected = json!({ "alg": "ES256", "nonce": nonce, "url": url });
        match signatory {
            Signatory::Key(jwk) => protected["jwk"] = jwk.value(),
            Signatory::Account(url) => protected["kid"] = url.into(),
        }
        Self { protected: encoded(&protected), payload: payload.map(encoded).unwrap_or_default() }
    }

    /// The message that is signed.
    pub(super) fn message(&self) -> String {
        format!("{}.{}", self.protected, self.payload)
    }

    /// The request's body, with the signature of the message in DER; `None` if it is no ECDSA signature on P-256.
    pub(super) fn signed(self, signature: &[u8]) -> Option<Vec<u8>> {
        let signature = BASE64URL_NOPAD.encode(&fixed(signature)?);
        let body = json!({ "protected": self.protected, "payload": self.payload, "signature": signature });
        Some(body.to_string().into_bytes())
    }
}

fn encoded(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

/// An ECDSA signature on P-256 as two numbers of 32 bytes (RFC 7518, section 3.4), from DER (RFC 3279, section 2.2.3).
fn fixed(der: &[u8]) -> Option<[u8; 2 * COORDINATE]> {
    let (rest, sequence) = Sequence::from_der(der).ok()?;
    let (after_r, r) = Integer::from_der(&sequence.content).ok()?;
    let (after_s, s) = Integer::from_der(after_r).ok()?;
    if !rest.is_empty() || !after_s.is_empty() {
        return None;
    }
    let mut fixed = [0; 2 * COORDINATE];
    let (r_place, s_place) = fixed.split_at_mut(COORDINATE);
    for (number, place) in [(r, r_place), (s, s_place)] {
        let bytes = number.as_ref();
        // A leading zero keeps a number positive.
        let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        let start = COORDINATE.checked_sub(bytes.len())?;
        place[start..].copy_from_slice(bytes);
    }
    Some(fixed)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    };

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_request_verifies_as_es256_whatever_the_length_of_its_numbers() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = [&P256_SPKI[..26], pair.public_key().as_ref()].concat();
        let jwk = Jwk::of_spki(&spki).unwrap();
        assert_eq!([&[4][..], &bytes(&jwk.x), &bytes(&jwk.y)].concat(), pair.public_key().as_ref());
        // One in 128 has a number that is shorter than 32 bytes.
        for _ in 0..600 {
            let payload = json!({ "a": 1 });
            let unsigned =
                Unsigned::new(Signatory::Key(&jwk), "n", "https://ca.example/order", Some(&payload));
            let message = unsigned.message();
            let der = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            let body: Value = serde_json::from_slice(&unsigned.signed(der.as_ref()).unwrap()).unwrap();
            let signature = bytes(body["signature"].as_str().unwrap());
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
                .verify(message.as_bytes(), &signature)
                .unwrap();
            let protected: Value =
                serde_json::from_slice(&bytes(body["protected"].as_str().unwrap())).unwrap();
            assert_eq!(protected["alg"], "ES256");
            assert_eq!(protected["url"], "https://ca.example/order");
            assert_eq!(protected["jwk"]["kty"], "EC");
        }
        for bad in [&b""[..], &[0x30, 0], &[0x30, 3, 2, 1, 1], &[0x30, 6, 2, 1, 1, 2, 1, 1, 0]] {
            assert_eq!(fixed(bad), None, "{bad:?}");
        }
        let too_long = [&[0x30, 38, 2, 33][..], &[1; 33], &[2, 1, 1]].concat();
        assert_eq!(fixed(&too_long), None);
        assert_eq!(Jwk::of_spki(&spki[1..]), None);
    }

    #[test]
    fn a_request_that_only_reads_has_an_empty_payload() {
        let unsigned = Unsigned::new(Signatory::Account("https://ca.example/7"), "n", "https://u", None);
        assert!(unsigned.message().ends_with('.'), "{}", unsigned.message());
        let protected: Value =
            serde_json::from_slice(&bytes(unsigned.message().trim_end_matches('.'))).unwrap();
        assert_eq!(
            protected,
            json!({ "alg": "ES256", "kid": "https://ca.example/7", "nonce": "n", "url": "https://u" })
        );
    }

    #[test]
    fn a_thumbprint_is_that_of_the_members_in_their_order() {
        // The key of RFC 7517, appendix A.1; the value by `openssl dgst -sha256` of the text in RFC 7638's form.
        let jwk = Jwk {
            x: "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4".to_owned(),
            y: "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM".to_owned(),
        };
        assert_eq!(jwk.thumbprint(), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
    }

    #[test]
    fn an_external_binding_is_a_mac_of_the_key() {
        let jwk = Jwk { x: "eA".to_owned(), y: "eQ".to_owned() };
        let binding = jwk.external_binding("kid-1", b"secret", "https://ca.example/account");
        let message =
            format!("{}.{}", binding["protected"].as_str().unwrap(), binding["payload"].as_str().unwrap());
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        hmac::verify(&key, message.as_bytes(), &bytes(binding["signature"].as_str().unwrap())).unwrap();
        let protected: Value =
            serde_json::from_slice(&bytes(binding["protected"].as_str().unwrap())).unwrap();
        assert_eq!(protected, json!({ "alg": "HS256", "kid": "kid-1", "url": "https://ca.example/account" }));
    }
}
