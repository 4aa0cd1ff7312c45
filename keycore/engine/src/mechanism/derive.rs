//! Derivation of secret keys.

use aws_lc_rs::agreement::{self, UnparsedPublicKey, agree};
use aws_lc_rs::digest::Context;
use aws_lc_rs::hkdf::{self, KeyType, Salt};
use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
use keycore_wire::{DeriveMechanism, Hash, KeyAlgorithm};
use zeroize::Zeroizing;

use super::public_key::{PublicKey, PublicKind};
use super::{bad_input, hash, not_offered};
use crate::denial::Denial;
use crate::der::SEQUENCE;
use crate::material::Material;
use crate::private_key::PrivateKey;

/// Derives `length` bytes.
pub(crate) fn derive(
    key: &Material,
    mechanism: DeriveMechanism<'_>,
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, Denial> {
    match (key, mechanism) {
        (Material::Private(private), DeriveMechanism::Ecdh { peer }) => ecdh(private, peer, |shared| {
            let bytes = shared.get(..length).ok_or_else(|| {
                bad_input(format!("the shared secret of this curve has {} bytes", shared.len()))
            })?;
            Ok(Zeroizing::new(bytes.to_vec()))
        }),
        (Material::Private(private), DeriveMechanism::EcdhX963 { peer, hash, info }) => {
            ecdh(private, peer, |shared| Ok(x963(hash, shared, info, length)))
        }
        (Material::Secret(secret), DeriveMechanism::CounterKdf { hash, fixed_input }) => {
            let id = match hash {
                Hash::Sha224 => KbkdfCtrHmacAlgorithmId::Sha224,
                Hash::Sha256 => KbkdfCtrHmacAlgorithmId::Sha256,
                Hash::Sha384 => KbkdfCtrHmacAlgorithmId::Sha384,
                Hash::Sha512 => KbkdfCtrHmacAlgorithmId::Sha512,
                Hash::Sha1 => return Err(not_offered("the counter KDF is not offered with sha1")),
            };
            let algorithm = get_kbkdf_ctr_hmac_algorithm(id)
                .ok_or_else(|| Denial::internal("aws-lc has not this counter KDF"))?;
            let mut out = Zeroizing::new(vec![0; length]);
            kbkdf_ctr_hmac(algorithm, secret.expose(), fixed_input, &mut out)?;
            Ok(out)
        }
        (Material::Secret(secret), DeriveMechanism::Hkdf { hash, salt, info }) => {
            let algorithm = match hash {
                Hash::Sha1 => hkdf::HKDF_SHA1_FOR_LEGACY_USE_ONLY,
                Hash::Sha256 => hkdf::HKDF_SHA256,
                Hash::Sha384 => hkdf::HKDF_SHA384,
                Hash::Sha512 => hkdf::HKDF_SHA512,
                Hash::Sha224 => return Err(not_offered("HKDF is not offered with sha224")),
            };
            let mut out = Zeroizing::new(vec![0; length]);
            let info = [info];
            let prk = Salt::new(algorithm, salt).extract(secret.expose());
            prk.expand(&info, Length(length))
                .and_then(|okm| okm.fill(&mut out))
                .map_err(|_| bad_input("HKDF gives at most 255 digests"))?;
            Ok(out)
        }
        _ => Err(not_offered(format!("a key of type {} has no {mechanism}", key.algorithm()))),
    }
}

/// How much HKDF shall give.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn ecdh<T>(key: &PrivateKey, peer: &[u8], kdf: impl FnOnce(&[u8]) -> Result<T, Denial>) -> Result<T, Denial> {
    let algorithm = match key.algorithm() {
        KeyAlgorithm::P256 => &agreement::ECDH_P256,
        KeyAlgorithm::P384 => &agreement::ECDH_P384,
        KeyAlgorithm::P521 => &agreement::ECDH_P521,
        other => return Err(not_offered(format!("a key of type {other} has no ECDH"))),
    };
    let wrong = || bad_input("the peer's public key is none of this curve");
    let point = match peer {
        // Only named curves are taken: parameters that are written out could be anything.
        [SEQUENCE, ..] => match PublicKey::from_spki(peer).map_err(|_| wrong())? {
            PublicKey { kind: PublicKind::Ec(curve), bits } if Some(curve) == key.curve() => bits,
            _ => return Err(wrong()),
        },
        point => point,
    };
    let private = agreement::PrivateKey::from_private_key_der(algorithm, &key.to_pkcs8()?)
        .map_err(|_| Denial::internal("a stored key does not agree"))?;
    agree(&private, UnparsedPublicKey::new(algorithm, point), wrong(), kdf)
}

/// ANSI X9.63's KDF (SEC 1, section 3.6.1): the digests of secret, counter and information, one behind the other.
fn x963(hash: Hash, shared: &[u8], info: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(length + hash.digest_len()));
    let mut counter = 1u32;
    while out.len() < length {
        let mut digest = Context::new(hash::algorithm(hash));
        digest.update(shared);
        digest.update(&counter.to_be_bytes());
        digest.update(info);
        out.extend_from_slice(digest.finish().as_ref());
        counter += 1;
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// NIST's CAVP, "ANS X9.63-2001": the first vector of each hash, and the first with shared information.
    #[test]
    #[rustfmt::skip]
    fn x963_gives_the_known_answers() {
        for (hash, shared, info, key) in [
            (Hash::Sha1, "1c7d7b5f0597b03d06a018466ed1a93e30ed4b04dc64ccdd", "", "bf71dffd8f4d99223936beb46fee8ccc"),
            (Hash::Sha224, "9ba3226ba0fca6bd5ddaef5b8d763a4d3303bc258d90468c", "", "15ccbd7d6b8f918335799b3920e69c1f"),
            (Hash::Sha256, "96c05619d56c328ab95fe84b18264b08725b85e33fd34f08", "", "443024c3dae66b95e6f5670601558f71"),
            (Hash::Sha256, "22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d", "75eef81aa3041e33b80971203d2c0c52", "c498af77161cc59f2962b9a713e2b215152d139766ce34a776df11866a69bf2e52a13d9c7c6fc878c50c5ea0bc7b00e0da2447cfd874f6cf92f30d0097111485500c90c3af8b487872d04685d14c8d1dc8d7fa08beb0ce0ababc11f0bd496269142d43525a78e5bc79a17f59676a5706dc54d54d4d1f0bd7e386128ec26afc21"),
            (Hash::Sha384, "d8554db1b392cd55c3fe957bed76af09c13ac2a9392f88f6", "", "671a46aada145162f8ddf1ca586a1cda"),
            (Hash::Sha512, "87fc0d8c4477485bb574f5fcea264b30885dc8d90ad82782", "", "947665fbb9152153ef460238506a0245"),
        ] {
            let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
            assert_eq!(*x963(hash, &hex(shared), &hex(info), key.len() / 2), hex(key), "{hash}");
        }
    }
}
