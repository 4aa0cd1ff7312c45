//! RSA encryption.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey,
    Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use keycore_wire::{CipherMechanism, Hash, Secret};
use subtle::{ConditionallySelectable, ConstantTimeLess};
use zeroize::Zeroizing;

use super::{bad_input, decryption_failed, not_offered};
use crate::denial::Denial;
use crate::private_key::{Pair, PrivateKey, sha256};

/// Bytes that PKCS#1 v1.5 adds at least.
const PKCS1_OVERHEAD: usize = 11;

/// Padding of an RSA encryption.
#[derive(Clone, Copy)]
pub(super) enum Padding<'a> {
    Oaep { algorithm: &'static OaepAlgorithm, label: &'a [u8] },
    Pkcs1,
}

impl<'a> Padding<'a> {
    pub(super) fn of(mechanism: CipherMechanism<'a>) -> Result<Self, Denial> {
        match mechanism {
            CipherMechanism::RsaOaep { hash, label } => Self::oaep(hash, label),
            CipherMechanism::RsaPkcs1 => Ok(Self::Pkcs1),
            _ => Err(not_offered(format!("a key pair has no {mechanism}"))),
        }
    }

    pub(super) fn oaep(hash: Hash, label: &'a [u8]) -> Result<Self, Denial> {
        let algorithm = match hash {
            Hash::Sha1 => &OAEP_SHA1_MGF1SHA1,
            Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
            Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
            Hash::Sha512 => &OAEP_SHA512_MGF1SHA512,
            Hash::Sha224 => return Err(not_offered("RSA-OAEP is not offered with sha224")),
        };
        Ok(Self::Oaep { algorithm, label })
    }
}

/// Encrypts under the public half.
pub(super) fn encrypt(key: &PrivateKey, padding: Padding<'_>, data: &[u8]) -> Result<Vec<u8>, Denial> {
    require_rsa(key)?;
    let public = PublicEncryptingKey::from_der(&key.spki()?).map_err(|_| Unspecified)?;
    let mut out = vec![0; public.key_size_bytes()];
    let too_long = |_| bad_input("the data is longer than the key can encrypt");
    let length = match padding {
        Padding::Oaep { algorithm, label } => OaepPublicEncryptingKey::new(public)?
            .encrypt(algorithm, data, &mut out, Some(label))
            .map_err(too_long)?
            .len(),
        Padding::Pkcs1 => {
            Pkcs1PublicEncryptingKey::new(public)?.encrypt(data, &mut out).map_err(too_long)?.len()
        }
    };
    out.truncate(length);
    Ok(out)
}

/// Decrypts with the private half. OAEP: one error for all that can be wrong. PKCS#1 v1.5: a wrong padding is no error.
pub(super) fn decrypt(key: &PrivateKey, padding: Padding<'_>, data: &[u8]) -> Result<Secret, Denial> {
    require_rsa(key)?;
    let pkcs8 = key.to_pkcs8()?;
    let private = PrivateDecryptingKey::from_pkcs8(&pkcs8).map_err(|_| Unspecified)?;
    let size = private.key_size_bytes();
    if data.len() != size {
        return Err(decryption_failed());
    }
    let mut out = Zeroizing::new(vec![0; size]);
    match padding {
        Padding::Oaep { algorithm, label } => {
            let length = OaepPrivateDecryptingKey::new(private)?
                .decrypt(algorithm, data, &mut out, Some(label))
                .map_err(|_| decryption_failed())?
                .len();
            out.truncate(length);
            Ok(Secret::from(out))
        }
        Padding::Pkcs1 => {
            let mut substitute = substitute(&pkcs8, data, size - PKCS1_OVERHEAD);
            let found =
                Pkcs1PrivateDecryptingKey::new(private)?.decrypt(data, &mut out).map(|found| found.len());
            if let Ok(length) = found {
                out.truncate(length);
                core::mem::swap(&mut out, &mut substitute);
            }
            Ok(Secret::from(substitute))
        }
    }
}

/// What a ciphertext with a wrong padding decrypts to: always the same for one key and ciphertext, and nothing that
/// whoever made it can tell from a plaintext (implicit rejection, draft-irtf-cfrg-rsa-guidance, section 7). It is made for
/// every ciphertext, so that the time tells nothing either, but for the nanoseconds of a move.
fn substitute(pkcs8: &[u8], ciphertext: &[u8], longest: usize) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &sha256(pkcs8));
    let block = |number: u16| {
        let mut context = hmac::Context::with_key(&key);
        context.update(b"keycore pkcs1 substitute");
        context.update(&number.to_be_bytes());
        context.update(ciphertext);
        context.sign()
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(longest + 32));
    let mut number = 1;
    while bytes.len() < longest {
        bytes.extend_from_slice(block(number).as_ref());
        number += 1;
    }
    bytes.truncate(length_from(block(0).as_ref(), longest));
    bytes
}

/// A length up to `longest`: the last of several random numbers that is none too long, picked without branches.
fn length_from(random: &[u8], longest: usize) -> usize {
    let longest = u32::try_from(longest).unwrap_or(u32::MAX);
    let mask = longest.next_power_of_two().wrapping_mul(2).wrapping_sub(1);
    let mut length = 0u32;
    for pair in random.chunks_exact(2) {
        let candidate = u32::from(u16::from_be_bytes([pair[0], pair[1]])) & mask;
        length.conditional_assign(&candidate, candidate.ct_lt(&(longest + 1)));
    }
    usize::try_from(length).unwrap_or(0)
}

fn require_rsa(key: &PrivateKey) -> Result<(), Denial> {
    match key.pair() {
        Pair::Rsa(_) => Ok(()),
        _ => Err(not_offered(format!("a key of type {} does not encrypt", key.algorithm()))),
    }
}
