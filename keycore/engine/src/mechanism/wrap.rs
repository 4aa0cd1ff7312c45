//! Wrapping of keys.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap, KeyWrapPadded};
use aws_lc_rs::rand;
use keycore_wire::{Hash, KeyAlgorithm, Secret, WrapMechanism};
use zeroize::Zeroizing;

use super::rsa_cipher::{self, Padding};
use super::{bad_input, cipher, decryption_failed, not_offered};
use crate::denial::Denial;
use crate::material::{Material, SecretKey};
use crate::private_key::PrivateKey;

/// What AES key wrap adds at most: eight bytes, and seven of padding.
const KW_OVERHEAD: usize = 15;

/// Length of a GCM nonce, in bytes.
const NONCE: usize = 12;

/// Wraps `plain` under `key`.
pub(crate) fn wrap(
    key: &Material,
    mechanism: WrapMechanism,
    plain: &[u8],
    nonce: impl FnOnce() -> Result<[u8; NONCE], Denial>,
) -> Result<Vec<u8>, Denial> {
    match (key, mechanism) {
        (Material::Secret(secret), WrapMechanism::AesKw) => key_wrap(secret, plain, false),
        (Material::Secret(secret), WrapMechanism::AesKwp) => key_wrap(secret, plain, true),
        (Material::Secret(secret), WrapMechanism::AesGcm) if secret.algorithm().is_aes() => {
            let nonce = nonce()?;
            let mut bytes = plain.to_vec();
            cipher::seal(secret, nonce, &[], &mut bytes)?;
            bytes.splice(..0, nonce);
            Ok(bytes)
        }
        (Material::Private(private), WrapMechanism::RsaOaep(hash)) => {
            rsa_cipher::encrypt(private, Padding::oaep(hash, &[])?, plain)
        }
        (Material::Private(private), WrapMechanism::RsaAes(hash)) => rsa_aes(private, hash, plain),
        _ => Err(not_offered(format!("a key of type {} has no {mechanism}", key.algorithm()))),
    }
}

/// Unwraps. Every failure that depends on what is wrapped looks the same.
pub(crate) fn unwrap(key: &Material, mechanism: WrapMechanism, wrapped: &[u8]) -> Result<Secret, Denial> {
    match (key, mechanism) {
        (Material::Secret(secret), WrapMechanism::AesKw) => key_unwrap(secret, wrapped, false),
        (Material::Secret(secret), WrapMechanism::AesKwp) => key_unwrap(secret, wrapped, true),
        (Material::Secret(secret), WrapMechanism::AesGcm) if secret.algorithm().is_aes() => {
            let (nonce, sealed) = wrapped.split_first_chunk::<NONCE>().ok_or_else(decryption_failed)?;
            let mut bytes = Zeroizing::new(sealed.to_vec());
            let length = cipher::open(secret, *nonce, &[], &mut bytes)?.len();
            bytes.truncate(length);
            Ok(Secret::from(bytes))
        }
        (Material::Private(private), WrapMechanism::RsaOaep(hash)) => {
            rsa_cipher::decrypt(private, Padding::oaep(hash, &[])?, wrapped)
        }
        (Material::Private(private), WrapMechanism::RsaAes(hash)) => {
            let modulus = private.modulus_len().ok_or_else(|| not_offered("this key is not RSA"))?;
            let (head, tail) = wrapped.split_at_checked(modulus).ok_or_else(decryption_failed)?;
            let inner = rsa_cipher::decrypt(private, Padding::oaep(hash, &[])?, head)?;
            let algorithm = match inner.expose().len() {
                16 => KeyAlgorithm::Aes128,
                32 => KeyAlgorithm::Aes256,
                _ => return Err(decryption_failed()),
            };
            let inner = SecretKey::new(algorithm, inner).map_err(|_| decryption_failed())?;
            key_unwrap(&inner, tail, true)
        }
        _ => Err(not_offered(format!("a key of type {} has no {mechanism}", key.algorithm()))),
    }
}

fn rsa_aes(key: &PrivateKey, hash: Hash, plain: &[u8]) -> Result<Vec<u8>, Denial> {
    let mut bytes = Zeroizing::new(vec![0; 32]);
    rand::fill(&mut bytes)?;
    let mut wrapped = rsa_cipher::encrypt(key, Padding::oaep(hash, &[])?, &bytes)?;
    let inner = SecretKey::new(KeyAlgorithm::Aes256, Secret::from(bytes))?;
    wrapped.extend_from_slice(&key_wrap(&inner, plain, true)?);
    Ok(wrapped)
}

fn kek(key: &SecretKey) -> Result<AesKek, Denial> {
    let cipher = match key.algorithm() {
        KeyAlgorithm::Aes128 => &AES_128,
        KeyAlgorithm::Aes256 => &AES_256,
        other => return Err(not_offered(format!("a key of type {other} has no AES key wrap"))),
    };
    Ok(AesKek::new(cipher, key.expose())?)
}

fn key_wrap(key: &SecretKey, plain: &[u8], padded: bool) -> Result<Vec<u8>, Denial> {
    let kek = kek(key)?;
    let mut out = vec![0; plain.len() + KW_OVERHEAD];
    let wrapped: Result<&mut [u8], Unspecified> =
        if padded { kek.wrap_with_padding(plain, &mut out) } else { kek.wrap(plain, &mut out) };
    let length = wrapped
        .map_err(|_| bad_input("AES key wrap without padding takes a multiple of 8 bytes, 16 at least"))?
        .len();
    out.truncate(length);
    Ok(out)
}

fn key_unwrap(key: &SecretKey, wrapped: &[u8], padded: bool) -> Result<Secret, Denial> {
    let kek = kek(key)?;
    let mut out = Zeroizing::new(vec![0; wrapped.len()]);
    let plain =
        if padded { kek.unwrap_with_padding(wrapped, &mut out) } else { kek.unwrap(wrapped, &mut out) };
    let length = plain.map_err(|_| decryption_failed())?.len();
    out.truncate(length);
    Ok(Secret::from(out))
}
