//! Keys that leave and come in wrapped under another: `hsm key wrap` and `unwrap`.

use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::BASE64;
use keycore_wire::{FindKey, KeyForm, MAX_WRAPPED, UnwrapKey, WrapKey};
use serde_json::json;

use super::idempotency_key;
use super::new::{Form, NewKey};
use super::view::{details, view};
use crate::connection::LoggedIn;
use crate::failure::Failure;
use crate::file;
use crate::key_argument::KeyArgument;
use crate::mechanism_argument::WrapArgument;
use crate::output::Answer;

/// Under which key, and how.
#[derive(Debug, Args)]
pub(crate) struct Wrapping {
    /// Label, id or hash of the public key of the wrapping key
    #[arg(long, value_name = "KEY")]
    wrapping_key: KeyArgument,
    /// Such as aes-kwp, aes-gcm, rsa-oaep-sha256 or rsa-aes-sha256
    #[arg(long)]
    mechanism: WrapArgument,
}

/// A wrapped key in a file.
#[derive(Debug, Args)]
pub(crate) struct Wrapped {
    #[command(flatten)]
    wrapping: Wrapping,
    #[command(flatten)]
    new: NewKey,
    /// What is wrapped: a private key in PKCS#8 (pem), or the bytes of a secret key
    #[arg(long, default_value = "pem", value_enum)]
    form: Form,
    /// The wrapped key's bytes; - is standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Wraps a key into a file, or prints it in Base64.
pub(super) fn wrap(
    engine: &LoggedIn,
    key: &KeyArgument,
    wrapping: &Wrapping,
    out: Option<&Path>,
) -> Result<Answer, Failure> {
    let key = engine.call(&FindKey { key: key.0.clone() })?;
    let under = engine.call(&FindKey { key: wrapping.wrapping_key.0.clone() })?.id;
    let mechanism = wrapping.mechanism.0;
    let wrapped = engine.call(&WrapKey { wrapping: under, key: key.id, mechanism })?.bytes;
    let text = BASE64.encode(&wrapped);
    let data = json!({
        "key": key.id.to_string(),
        "wrapping_key": under.to_string(),
        "mechanism": mechanism.to_string(),
        "wrapped": text,
    });
    let Some(path) = out else { return Ok(Answer::new(text, data)) };
    file::write(path, &wrapped, 0o600, true)?;
    Ok(Answer::new(format!("wrote key {}, wrapped, to {}", key.label, path.display()), data))
}

/// Takes in a wrapped key.
pub(super) fn unwrap(engine: &LoggedIn, wrapped: &Wrapped) -> Result<Answer, Failure> {
    let bytes = file::read(&wrapped.file, MAX_WRAPPED)?;
    let under = engine.call(&FindKey { key: wrapped.wrapping.wrapping_key.0.clone() })?.id;
    let key = engine.call(&UnwrapKey {
        idempotency_key: idempotency_key()?,
        unwrapping: under,
        mechanism: wrapped.wrapping.mechanism.0,
        form: match wrapped.form {
            Form::Pem => KeyForm::Pkcs8,
            Form::Aes => KeyForm::Aes,
            Form::GenericSecret => KeyForm::GenericSecret,
        },
        wrapped: &bytes,
        template: wrapped.new.template(),
    })?;
    Ok(Answer::new(details(&key), view(&key)))
}
