//! Signatures and authentication codes, made and verified.

use std::path::Path;

use data_encoding::BASE64;
use keycore_wire::{FindKey, MAX_CRYPTO_INPUT, MAX_SIGN_MESSAGE, Sign, SignData, Signer, VerifyData};
use serde_json::json;

use super::Data;
use crate::connection::LoggedIn;
use crate::failure::Failure;
use crate::key_argument::{KeyArgument, SchemeArgument};
use crate::mechanism_argument::SignArgument;
use crate::output::Answer;
use crate::{file, own_key};

/// Longest signature, in bytes: that of ML-DSA-87 has 4,627.
const MAX_SIGNATURE: usize = 8192;

/// Signs by a scheme of TLS.
pub(super) fn by_scheme(
    engine: &LoggedIn,
    key: &KeyArgument,
    scheme: SchemeArgument,
    data: &Data,
) -> Result<Answer, Failure> {
    let message = file::read(&data.data_file, MAX_SIGN_MESSAGE)?;
    let key = engine.call(&FindKey { key: key.0.clone() })?;
    let signature = engine.call(&Sign { key: key.id, scheme: scheme.0, message: &message })?.bytes;
    answer(data, &signature, json!({ "key": key.id.to_string(), "scheme": scheme.name() }))
}

/// Signs, or makes a code.
pub(super) fn sign(
    engine: &LoggedIn,
    key: &KeyArgument,
    mechanism: Option<SignArgument>,
    prehashed: bool,
    data: &Data,
) -> Result<Answer, Failure> {
    let content = file::read(&data.data_file, MAX_CRYPTO_INPUT)?;
    let key = engine.call(&FindKey { key: key.0.clone() })?;
    let mechanism = mechanism.unwrap_or_else(|| SignArgument::best(key.algorithm));
    let sign = SignData { key: key.id, mechanism: mechanism.0, prehashed, data: &content };
    let signature = engine.call(&sign)?.bytes;
    answer(data, &signature, json!({ "key": key.id.to_string(), "mechanism": mechanism.name() }))
}

fn answer(data: &Data, signature: &[u8], mut view: serde_json::Value) -> Result<Answer, Failure> {
    let text = BASE64.encode(signature);
    view["signature"] = json!(text);
    let Some(path) = &data.out else { return Ok(Answer::new(text, view)) };
    file::write(path, signature, 0o644, true)?;
    Ok(Answer::new(format!("wrote the signature to {}", path.display()), view))
}

/// Whose signature is verified, and how it was made.
pub(super) struct Verification<'a> {
    pub(super) key: Option<&'a KeyArgument>,
    pub(super) public_key: Option<&'a Path>,
    pub(super) mechanism: Option<SignArgument>,
    pub(super) prehashed: bool,
}

/// Verifies; a wrong signature is the engine's refusal, with its exit code.
pub(super) fn verify(
    engine: &LoggedIn,
    verification: &Verification<'_>,
    data: &Path,
    signature: &Path,
) -> Result<Answer, Failure> {
    let data = file::read(data, MAX_CRYPTO_INPUT)?;
    let signature = file::read(signature, MAX_SIGNATURE)?;
    let found = match verification.key {
        Some(key) => Some(engine.call(&FindKey { key: key.0.clone() })?),
        None => None,
    };
    let spki = verification.public_key.map(own_key::read_public).transpose()?;
    let (signer, best) = match (&found, &spki) {
        (Some(key), _) => (Signer::Key(key.id), Some(SignArgument::best(key.algorithm))),
        (None, Some(spki)) => (Signer::PublicKey(spki), None),
        (None, None) => {
            return Err(Failure::Usage("--key or --public-key says whose signature it is".to_owned()));
        }
    };
    let Some(mechanism) = verification.mechanism.or(best) else {
        return Err(Failure::Usage("--mechanism says how the signature was made".to_owned()));
    };
    engine.call(&VerifyData {
        signer,
        mechanism: mechanism.0,
        prehashed: verification.prehashed,
        data: &data,
        signature: &signature,
    })?;
    Ok(Answer::new("the signature is right", json!({ "mechanism": mechanism.name(), "valid": true })))
}
