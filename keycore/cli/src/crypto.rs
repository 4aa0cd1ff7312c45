//! Keys at work: `hsm crypto`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keycore_wire::{Hash, MAX_RANDOM};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::key_argument::{KeyArgument, SchemeArgument};
use crate::mechanism_argument::{CipherArgument, SignArgument};
use crate::output::Answer;

mod cipher;
mod derive;
mod signature;

use derive::Derivation;

#[derive(Subcommand)]
pub(crate) enum CryptoCommand {
    /// Sign the content of a file of at most 64 KiB; the signature is printed in Base64, or written as bytes
    Sign {
        /// Label, id or hash of the public key; of usage sign
        #[arg(long)]
        key: KeyArgument,
        /// By its name in TLS, such as ecdsa_secp256r1_sha256 or rsa_pss_rsae_sha256
        #[arg(long, conflicts_with = "mechanism")]
        scheme: Option<SchemeArgument>,
        /// Such as rsa-pss-sha256, ecdsa-sha512-fixed, ed25519 or ml-dsa [default: the best of the key]
        #[arg(long)]
        mechanism: Option<SignArgument>,
        /// The file holds the digest of the message (RSA, ECDSA)
        #[arg(long, conflicts_with = "scheme")]
        prehashed: bool,
        #[command(flatten)]
        data: Data,
    },
    /// Verify a signature or an authentication code
    Verify {
        /// Label, id or hash of the public key; of usage sign
        #[arg(long, required_unless_present = "public_key")]
        key: Option<KeyArgument>,
        /// PEM file with anybody's public key
        #[arg(long, value_name = "FILE", conflicts_with = "key", requires = "mechanism")]
        public_key: Option<PathBuf>,
        /// As it was made [default: the best of the key]
        #[arg(long)]
        mechanism: Option<SignArgument>,
        /// The file holds the digest of the message (RSA, ECDSA)
        #[arg(long)]
        prehashed: bool,
        /// What was signed; - is standard input
        #[arg(long, value_name = "FILE")]
        data_file: PathBuf,
        /// The signature's bytes
        #[arg(long, value_name = "FILE")]
        signature_file: PathBuf,
    },
    /// Make an authentication code
    Mac {
        /// Label or id of a secret key; of usage sign
        #[arg(long)]
        key: KeyArgument,
        /// Such as hmac-sha512 or aes-cmac [default: hmac-sha256, aes-cmac for an AES key]
        #[arg(long)]
        mechanism: Option<SignArgument>,
        #[command(flatten)]
        data: Data,
    },
    /// Encrypt the content of a file of at most 64 KiB; the ciphertext begins with its initialization vector
    Encrypt {
        #[command(flatten)]
        cipher: Cipher,
        #[command(flatten)]
        data: Data,
    },
    /// Decrypt what hsm crypto encrypt wrote
    Decrypt {
        #[command(flatten)]
        cipher: Cipher,
        #[command(flatten)]
        data: Data,
    },
    /// Hash the content of a file of at most 64 KiB
    Digest {
        /// sha1, sha224, sha256, sha384 or sha512
        #[arg(long, default_value = "sha256")]
        hash: Hash,
        #[command(flatten)]
        data: Data,
    },
    /// Random bytes
    Random {
        /// How many
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_RANDOM)))]
        length: u16,
        /// File to write the bytes to
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Derive a secret key from another key, and keep it
    Derive(Box<Derivation>),
}

/// What goes in, and where it goes.
#[derive(Debug, Args)]
pub(crate) struct Data {
    /// What goes in; - is standard input
    #[arg(long, value_name = "FILE")]
    data_file: PathBuf,
    /// File to write the bytes to; without it they are printed in Base64
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Key and mode of an encryption.
#[derive(Debug, Args)]
pub(crate) struct Cipher {
    /// Label, id or hash of the public key; of usage encrypt
    #[arg(long)]
    key: KeyArgument,
    /// How [default: aes-gcm, rsa-oaep for an RSA key]
    #[arg(long, value_enum)]
    mechanism: Option<CipherArgument>,
    /// Of rsa-oaep
    #[arg(long, default_value = "sha256")]
    hash: Hash,
    /// File with what aes-gcm authenticates besides, or with the label of rsa-oaep
    #[arg(long, value_name = "FILE")]
    aad_file: Option<PathBuf>,
}

impl CryptoCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::Sign { key, scheme: Some(scheme), data, .. } => {
                connection.as_user(|engine| signature::by_scheme(engine, key, *scheme, data))
            }
            Self::Sign { key, mechanism, prehashed, data, .. } => {
                connection.as_user(|engine| signature::sign(engine, key, *mechanism, *prehashed, data))
            }
            Self::Mac { key, mechanism, data } => {
                connection.as_user(|engine| signature::sign(engine, key, *mechanism, false, data))
            }
            Self::Verify { key, public_key, mechanism, prehashed, data_file, signature_file } => {
                let verification = signature::Verification {
                    key: key.as_ref(),
                    public_key: public_key.as_deref(),
                    mechanism: *mechanism,
                    prehashed: *prehashed,
                };
                connection
                    .as_user(|engine| signature::verify(engine, &verification, data_file, signature_file))
            }
            Self::Encrypt { cipher, data } => {
                connection.as_user(|engine| cipher::encrypt(engine, cipher, data))
            }
            Self::Decrypt { cipher, data } => {
                connection.as_user(|engine| cipher::decrypt(engine, cipher, data))
            }
            Self::Digest { hash, data } => connection.as_user(|engine| cipher::digest(engine, *hash, data)),
            Self::Random { length, out } => {
                connection.as_user(|engine| cipher::random(engine, *length, out.as_deref()))
            }
            Self::Derive(derivation) => connection.as_user(|engine| derivation.run(engine)),
        }
    }
}
