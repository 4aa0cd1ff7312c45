//! Derivation of secret keys.

use aws_lc_rs::agreement::{self, UnparsedPublicKey, agree};
use aws_lc_rs::digest::Context;
use aws_lc_rs::hkdf::{self, KeyType, Salt};
use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
use keycore_wire::{DeriveMechanism, Hash, KeyAlgorithm};
use zeroize::Zeroizing;

use super::{bad_input, hash, not_offered};
use crate::denial::Denial;
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
    let private = agreement::PrivateKey::from_private_key_der(algorithm, &key.to_pkcs8()?)
        .map_err(|_| Denial::internal("a stored key does not agree"))?;
    let wrong = || bad_input("the peer's public key is none of this curve");
    agree(&private, UnparsedPublicKey::new(algorithm, peer), wrong(), kdf)
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
