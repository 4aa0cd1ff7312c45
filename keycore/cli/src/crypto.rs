use std::path::{Path, PathBuf};

use clap::Subcommand;
use data_encoding::BASE64;
use keycore_wire::{FindKey, MAX_SIGN_MESSAGE, Sign};
use serde_json::json;

use crate::connection::{Connection, LoggedIn};
use crate::failure::Failure;
use crate::file;
use crate::key_argument::{KeyArgument, SchemeArgument};
use crate::output::Answer;

#[derive(Subcommand)]
pub(crate) enum CryptoCommand {
    /// Sign the content of a file of at most 64 KiB; the signature is printed in Base64, or written as bytes
    Sign {
        /// Label, id or hash of the public key; of usage sign
        #[arg(long)]
        key: KeyArgument,
        /// By its name in TLS, such as ecdsa_secp256r1_sha256 or rsa_pss_rsae_sha256 [default: the key's best]
        #[arg(long)]
        scheme: Option<SchemeArgument>,
        /// What to sign, the message itself and not its hash; - is standard input
        #[arg(long, value_name = "FILE")]
        data_file: PathBuf,
        /// File to write the signature's bytes to
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

impl CryptoCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        let Self::Sign { key, scheme, data_file, out } = self;
        let message = file::read(data_file, MAX_SIGN_MESSAGE)?;
        connection.as_user(|engine| sign(engine, key, *scheme, &message, out.as_deref()))
    }
}

fn sign(
    engine: &LoggedIn,
    key: &KeyArgument,
    scheme: Option<SchemeArgument>,
    message: &[u8],
    out: Option<&Path>,
) -> Result<Answer, Failure> {
    let key = engine.call(&FindKey { key: key.0.clone() })?;
    let best = key.algorithm.schemes().first().copied().map(SchemeArgument);
    let Some(scheme) = scheme.or(best) else {
        return Err(Failure::Usage(format!("a key of type {} does not sign", key.algorithm)));
    };
    let signature = engine.call(&Sign { key: key.id, scheme: scheme.0, message })?.bytes;
    let text = BASE64.encode(&signature);
    let data = json!({ "key": key.id.to_string(), "scheme": scheme.name(), "signature": text });
    match out {
        Some(path) => {
            file::write(path, &signature, 0o644, true)?;
            Ok(Answer::new(format!("wrote the signature to {}", path.display()), data))
        }
        None => Ok(Answer::new(text, data)),
    }
}
