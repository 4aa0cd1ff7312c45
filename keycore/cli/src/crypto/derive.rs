//! Derivation of keys: `hsm crypto derive`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use keycore_wire::{DeriveKey, DeriveMechanism, FindKey, Hash, KeyAlgorithm, MAX_GENERIC_SECRET};

use crate::connection::LoggedIn;
use crate::failure::Failure;
use crate::key::{NewKey, details, idempotency_key, view};
use crate::key_argument::KeyArgument;
use crate::output::Answer;
use crate::{file, own_key};

/// Longest salt or information, in bytes.
const MAX_INFO: usize = 16 * 1024;

/// What is derived, from what, and how.
#[derive(Debug, Args)]
pub(crate) struct Derivation {
    /// Label, id or hash of the public key of the key to derive from; of usage derive
    #[arg(long)]
    key: KeyArgument,
    /// How
    #[arg(long, value_enum)]
    mechanism: Kdf,
    /// Of the key derivation function
    #[arg(long, default_value = "sha256")]
    hash: Hash,
    /// PEM file with the other side's public key (ecdh, ecdh-x963)
    #[arg(long, value_name = "FILE", required_if_eq_any = [("mechanism", "ecdh"), ("mechanism", "ecdh-x963")])]
    peer_key: Option<PathBuf>,
    /// File with the information (ecdh-x963, hkdf) or the fixed input (counter)
    #[arg(long, value_name = "FILE")]
    info_file: Option<PathBuf>,
    /// File with the salt (hkdf)
    #[arg(long, value_name = "FILE")]
    salt_file: Option<PathBuf>,
    /// What becomes of it
    #[arg(long, default_value = "aes", value_enum)]
    key_type: KeyType,
    /// Its length: 16, 24 or 32 for AES, 14 or more for a generic secret
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(14..=i64::from(MAX_GENERIC_SECRET)))]
    key_length_bytes: u16,
    #[command(flatten)]
    new: NewKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kdf {
    /// ECDH; the key is the beginning of the shared secret
    Ecdh,
    /// ECDH and the KDF of ANSI X9.63
    EcdhX963,
    /// SP 800-108 in counter mode with HMAC
    Counter,
    /// RFC 5869
    Hkdf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyType {
    Aes,
    GenericSecret,
}

impl Derivation {
    pub(super) fn run(&self, engine: &LoggedIn) -> Result<Answer, Failure> {
        let read = |path: &Option<PathBuf>| {
            path.as_deref().map_or(Ok(Vec::new()), |path| file::read(path, MAX_INFO))
        };
        let (info, salt) = (read(&self.info_file)?, read(&self.salt_file)?);
        let peer = self.peer_key.as_deref().map(own_key::read_public).transpose()?.unwrap_or_default();
        let (hash, peer, info, salt) = (self.hash, &*peer, &*info, &*salt);
        let mechanism = match self.mechanism {
            Kdf::Ecdh => DeriveMechanism::Ecdh { peer },
            Kdf::EcdhX963 => DeriveMechanism::EcdhX963 { peer, hash, info },
            Kdf::Counter => DeriveMechanism::CounterKdf { hash, fixed_input: info },
            Kdf::Hkdf => DeriveMechanism::Hkdf { hash, salt, info },
        };
        let key = engine.call(&FindKey { key: self.key.0.clone() })?.id;
        let derived = engine.call(&DeriveKey {
            idempotency_key: idempotency_key()?,
            key,
            mechanism,
            algorithm: self.algorithm()?,
            template: self.new.template(),
        })?;
        Ok(Answer::new(details(&derived), view(&derived)))
    }

    fn algorithm(&self) -> Result<KeyAlgorithm, Failure> {
        match (self.key_type, self.key_length_bytes) {
            (KeyType::GenericSecret, length) => Ok(KeyAlgorithm::GenericSecret(length)),
            (KeyType::Aes, 16) => Ok(KeyAlgorithm::Aes128),
            (KeyType::Aes, 24) => Ok(KeyAlgorithm::Aes192),
            (KeyType::Aes, 32) => Ok(KeyAlgorithm::Aes256),
            (KeyType::Aes, other) => {
                Err(Failure::Usage(format!("an AES key has 16, 24 or 32 bytes, not {other}")))
            }
        }
    }
}
