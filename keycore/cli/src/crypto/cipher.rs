//! Encryption, digests and random bytes.

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use keycore_wire::{
    CipherMechanism, Decrypt, Digest, Encrypt, FindKey, Hash, KeyInfo, MAX_CRYPTO_INPUT, Random,
};
use serde_json::json;

use super::{Cipher, Data};
use crate::connection::LoggedIn;
use crate::failure::Failure;
use crate::file;
use crate::mechanism_argument::CipherArgument;
use crate::output::Answer;

/// Longest initialization vector and tag, in bytes.
const OVERHEAD: usize = 32;

/// Encrypts a file.
pub(super) fn encrypt(engine: &LoggedIn, cipher: &Cipher, data: &Data) -> Result<Answer, Failure> {
    let plain = file::read_secret(&data.data_file, MAX_CRYPTO_INPUT)?;
    let (key, aad) = (cipher.find(engine)?, cipher.aad()?);
    let mechanism = cipher.mechanism(&key, &aad);
    let encrypted = engine.call(&Encrypt { key: key.id, mechanism, iv: &[], data: &plain })?;
    let whole = [&encrypted.iv[..], &encrypted.bytes[..]].concat();
    let view = json!({
        "key": key.id.to_string(),
        "mechanism": mechanism.to_string(),
        "iv": BASE64.encode(&encrypted.iv),
        "ciphertext": BASE64.encode(&encrypted.bytes),
    });
    let Some(path) = &data.out else { return Ok(Answer::new(BASE64.encode(&whole), view)) };
    file::write(path, &whole, 0o644, true)?;
    Ok(Answer::new(format!("wrote the ciphertext to {}", path.display()), view))
}

/// Decrypts a file that begins with its initialization vector.
pub(super) fn decrypt(engine: &LoggedIn, cipher: &Cipher, data: &Data) -> Result<Answer, Failure> {
    let whole = file::read(&data.data_file, MAX_CRYPTO_INPUT + OVERHEAD)?;
    let (key, aad) = (cipher.find(engine)?, cipher.aad()?);
    let mechanism = cipher.mechanism(&key, &aad);
    let iv_len = cipher.argument(&key).iv_len();
    let Some((iv, bytes)) = whole.split_at_checked(iv_len) else {
        return Err(Failure::Content {
            path: data.data_file.clone(),
            problem: format!("shorter than the initialization vector of {mechanism}, {iv_len} bytes"),
            advice: None,
        });
    };
    let plain = engine.call(&Decrypt { key: key.id, mechanism, iv, data: bytes })?.bytes;
    let view = |text: Option<&str>| json!({ "key": key.id.to_string(), "mechanism": mechanism.to_string(), "plaintext": text });
    let Some(path) = &data.out else {
        let text = BASE64.encode(plain.expose());
        return Ok(Answer::new(text.clone(), view(Some(&text))));
    };
    file::write(path, plain.expose(), 0o600, true)?;
    Ok(Answer::new(format!("wrote the plaintext to {}", path.display()), view(None)))
}

/// Hashes a file.
pub(super) fn digest(engine: &LoggedIn, hash: Hash, data: &Data) -> Result<Answer, Failure> {
    let content = file::read(&data.data_file, MAX_CRYPTO_INPUT)?;
    let digest = engine.call(&Digest { hash, data: &content })?.bytes;
    let text = HEXLOWER.encode(&digest);
    let view = json!({ "hash": hash.name(), "digest": text });
    let Some(path) = &data.out else { return Ok(Answer::new(text, view)) };
    file::write(path, &digest, 0o644, true)?;
    Ok(Answer::new(format!("wrote the digest to {}", path.display()), view))
}

/// Random bytes, in a file that only its owner reads, or in hexadecimal digits.
pub(super) fn random(engine: &LoggedIn, length: u16, out: Option<&Path>) -> Result<Answer, Failure> {
    let bytes = engine.call(&Random { length })?.bytes;
    let Some(path) = out else {
        let text = HEXLOWER.encode(&bytes);
        return Ok(Answer::new(text.clone(), json!({ "bytes": text })));
    };
    file::write(path, &bytes, 0o600, true)?;
    Ok(Answer::new(format!("wrote {length} random bytes to {}", path.display()), json!({ "file": path })))
}

impl Cipher {
    fn find(&self, engine: &LoggedIn) -> Result<KeyInfo, Failure> {
        engine.call(&FindKey { key: self.key.0.clone() })
    }

    fn aad(&self) -> Result<Vec<u8>, Failure> {
        self.aad_file.as_deref().map_or(Ok(Vec::new()), |path| file::read(path, MAX_CRYPTO_INPUT))
    }

    fn argument(&self, key: &KeyInfo) -> CipherArgument {
        let best = if key.algorithm.is_rsa() { CipherArgument::RsaOaep } else { CipherArgument::AesGcm };
        self.mechanism.unwrap_or(best)
    }

    fn mechanism<'a>(&self, key: &KeyInfo, aad: &'a [u8]) -> CipherMechanism<'a> {
        match self.argument(key) {
            CipherArgument::AesGcm => CipherMechanism::AesGcm { aad },
            CipherArgument::AesCbcPad => CipherMechanism::AesCbcPad,
            CipherArgument::AesCbc => CipherMechanism::AesCbc,
            CipherArgument::AesCtr => CipherMechanism::AesCtr,
            CipherArgument::AesEcb => CipherMechanism::AesEcb,
            CipherArgument::RsaOaep => CipherMechanism::RsaOaep { hash: self.hash, label: aad },
            CipherArgument::RsaPkcs1 => CipherMechanism::RsaPkcs1,
        }
    }
}
