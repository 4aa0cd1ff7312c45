//! Encryption of data.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce};
use aws_lc_rs::cipher::{
    self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use keycore_wire::{CipherMechanism, Ciphertext, Secret};
use zeroize::Zeroizing;

use super::rsa_cipher::{self, Padding};
use super::{bad_input, decryption_failed, not_offered};
use crate::denial::Denial;
use crate::material::{Material, SecretKey};

/// Length of an AES block, in bytes.
const BLOCK: usize = 16;

/// Encrypts `data`. For GCM, `nonce` makes one; for CBC and CTR the initialization vector is random unless `iv` is one.
pub(crate) fn encrypt(
    key: &Material,
    mechanism: CipherMechanism<'_>,
    iv: &[u8],
    data: &[u8],
    nonce: impl FnOnce() -> Result<[u8; 12], Denial>,
) -> Result<Ciphertext, Denial> {
    let secret = match key {
        Material::Secret(secret) if secret.algorithm().is_aes() => secret,
        Material::Private(private) => {
            without_iv(iv)?;
            let bytes = rsa_cipher::encrypt(private, Padding::of(mechanism)?, data)?;
            return Ok(Ciphertext { iv: Vec::new(), bytes });
        }
        Material::Secret(_) => return Err(not_offered("a generic secret does not encrypt")),
    };
    let mut bytes = data.to_vec();
    let iv = match mechanism {
        CipherMechanism::AesEcb => {
            without_iv(iv)?;
            whole_blocks(data)?;
            EncryptingKey::ecb(aes(secret)?)?.encrypt(&mut bytes)?;
            Vec::new()
        }
        CipherMechanism::AesCbc => {
            whole_blocks(data)?;
            let (iv, context) = start(iv)?;
            EncryptingKey::cbc(aes(secret)?)?.less_safe_encrypt(&mut bytes, context)?;
            iv.to_vec()
        }
        CipherMechanism::AesCtr => {
            let (iv, context) = start(iv)?;
            EncryptingKey::ctr(aes(secret)?)?.less_safe_encrypt(&mut bytes, context)?;
            iv.to_vec()
        }
        CipherMechanism::AesCbcPad => {
            let (iv, context) = start(iv)?;
            PaddedBlockEncryptingKey::cbc_pkcs7(aes(secret)?)?.less_safe_encrypt(&mut bytes, context)?;
            iv.to_vec()
        }
        CipherMechanism::AesGcm { aad } => {
            if !iv.is_empty() {
                return Err(bad_input("the nonce of AES-GCM is the engine's to make"));
            }
            let nonce = nonce()?;
            seal(secret, nonce, aad, &mut bytes)?;
            nonce.to_vec()
        }
        CipherMechanism::RsaOaep { .. } | CipherMechanism::RsaPkcs1 => {
            return Err(not_offered(format!("an AES key has no {mechanism}")));
        }
    };
    Ok(Ciphertext { iv, bytes })
}

/// Decrypts. Every failure that depends on what the ciphertext holds looks the same.
pub(crate) fn decrypt(
    key: &Material,
    mechanism: CipherMechanism<'_>,
    iv: &[u8],
    data: &[u8],
) -> Result<Secret, Denial> {
    let secret = match key {
        Material::Secret(secret) if secret.algorithm().is_aes() => secret,
        Material::Private(private) => {
            without_iv(iv)?;
            return rsa_cipher::decrypt(private, Padding::of(mechanism)?, data);
        }
        Material::Secret(_) => return Err(not_offered("a generic secret does not decrypt")),
    };
    let mut bytes = Zeroizing::new(data.to_vec());
    match mechanism {
        CipherMechanism::AesEcb => {
            without_iv(iv)?;
            whole_blocks(data)?;
            DecryptingKey::ecb(aes(secret)?)?.decrypt(&mut bytes, DecryptionContext::None)?;
        }
        CipherMechanism::AesCbc => {
            whole_blocks(data)?;
            let context = DecryptionContext::Iv128(iv_of(iv)?.into());
            DecryptingKey::cbc(aes(secret)?)?.decrypt(&mut bytes, context)?;
        }
        CipherMechanism::AesCtr => {
            let context = DecryptionContext::Iv128(iv_of(iv)?.into());
            DecryptingKey::ctr(aes(secret)?)?.decrypt(&mut bytes, context)?;
        }
        CipherMechanism::AesCbcPad => {
            let context = DecryptionContext::Iv128(iv_of(iv)?.into());
            let key = PaddedBlockDecryptingKey::cbc_pkcs7(aes(secret)?)?;
            let length = key.decrypt(&mut bytes, context).map_err(|_| decryption_failed())?.len();
            bytes.truncate(length);
        }
        CipherMechanism::AesGcm { aad } => {
            let nonce = iv.try_into().map_err(|_| bad_input("the nonce of AES-GCM has 12 bytes"))?;
            let length = open(secret, nonce, aad, &mut bytes)?.len();
            bytes.truncate(length);
        }
        CipherMechanism::RsaOaep { .. } | CipherMechanism::RsaPkcs1 => {
            return Err(not_offered(format!("an AES key has no {mechanism}")));
        }
    }
    Ok(Secret::from(bytes))
}

/// Encrypts in place and appends the tag.
pub(super) fn seal(
    key: &SecretKey,
    nonce: [u8; 12],
    aad: &[u8],
    bytes: &mut Vec<u8>,
) -> Result<(), Unspecified> {
    gcm(key)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), bytes)
}

/// Decrypts in place what has its tag at its end.
pub(super) fn open<'a>(
    key: &SecretKey,
    nonce: [u8; 12],
    aad: &[u8],
    bytes: &'a mut [u8],
) -> Result<&'a mut [u8], Denial> {
    gcm(key)?
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), bytes)
        .map_err(|_| decryption_failed())
}

fn gcm(key: &SecretKey) -> Result<LessSafeKey, Unspecified> {
    let algorithm = match key.expose().len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        _ => &aead::AES_256_GCM,
    };
    Ok(LessSafeKey::new(aead::UnboundKey::new(algorithm, key.expose())?))
}

fn aes(key: &SecretKey) -> Result<UnboundCipherKey, Unspecified> {
    let algorithm = match key.expose().len() {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        _ => &cipher::AES_256,
    };
    UnboundCipherKey::new(algorithm, key.expose())
}

/// The initialization vector that was given, or a random one: CBC's must not be foreseen (SP 800-38A, appendix C).
fn start(given: &[u8]) -> Result<([u8; BLOCK], EncryptionContext), Denial> {
    let mut iv = [0; BLOCK];
    if given.is_empty() {
        rand::fill(&mut iv)?;
    } else {
        iv = iv_of(given)?;
    }
    Ok((iv, EncryptionContext::Iv128(FixedLength::from(iv))))
}

fn iv_of(given: &[u8]) -> Result<[u8; BLOCK], Denial> {
    given.try_into().map_err(|_| bad_input("the initialization vector has 16 bytes"))
}

fn without_iv(iv: &[u8]) -> Result<(), Denial> {
    if iv.is_empty() { Ok(()) } else { Err(bad_input("this mechanism has no initialization vector")) }
}

fn whole_blocks(data: &[u8]) -> Result<(), Denial> {
    if !data.is_empty() && data.len().is_multiple_of(BLOCK) {
        Ok(())
    } else {
        Err(bad_input("this mechanism takes whole blocks of 16 bytes"))
    }
}
