use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use hsm_certs::to_pem;
use keycore_wire::{
    DeleteKey, FindKey, GenerateKey, IdempotencyKey, ImportKey, KeyAlgorithm, KeyInfo, KeyLabel, KeyUsage,
    ListKeys, MAX_PAGE, PublicKey,
};
use serde_json::json;

use crate::connection::{Connection, LoggedIn};
use crate::failure::Failure;
use crate::file::OutputFile;
use crate::key_argument::KeyArgument;
use crate::output::Answer;
use crate::private_key;

mod view;

use view::{details, listing, view};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key pair inside the engine
    #[command(subcommand)]
    GenerateAsymmetricPair(Algorithm),
    /// Take in a private key from a PEM file (PKCS#8, or the older RSA and EC forms), unencrypted
    Import {
        #[command(flatten)]
        new: NewKey,
        /// The PEM file; it is left as it is
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List your keys
    List,
    /// Show one key
    Info {
        /// Label, id or hash of the public key
        key: KeyArgument,
    },
    /// Print or write the public key in PEM
    Public {
        /// Label, id or hash of the public key
        key: KeyArgument,
        #[command(flatten)]
        out: OutputFile,
    },
    /// Delete a key for good
    Delete {
        /// Label, id or hash of the public key
        key: KeyArgument,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Algorithm {
    /// RSA, public exponent 65537
    Rsa {
        /// Length of the modulus
        #[arg(long, default_value = "2048", value_enum)]
        modulus_size_bits: Modulus,
        #[command(flatten)]
        new: NewKey,
    },
    /// ECDSA on one of NIST's curves
    Ec {
        /// Which curve
        #[arg(long, value_enum)]
        curve: Curve,
        #[command(flatten)]
        new: NewKey,
    },
    /// Ed25519 (few browsers take it in certificates)
    Ed25519 {
        #[command(flatten)]
        new: NewKey,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Modulus {
    #[value(name = "2048")]
    Bits2048,
    #[value(name = "3072")]
    Bits3072,
    #[value(name = "4096")]
    Bits4096,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Curve {
    #[value(alias = "secp256r1", alias = "prime256v1")]
    P256,
    #[value(alias = "secp384r1")]
    P384,
    #[value(alias = "secp521r1")]
    P521,
}

/// What a new key is called and may do.
#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// Unique among your keys: 1 to 64 printable characters without spaces
    #[arg(long)]
    label: KeyLabel,
    /// sign: whatever you ask; tls-server: TLS handshakes and its own CSR, nothing else
    #[arg(long, default_value = "sign", value_name = "sign|tls-server")]
    usage: KeyUsage,
}

impl KeyCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::GenerateAsymmetricPair(algorithm) => {
                connection.as_user(|engine| generate(engine, algorithm))
            }
            Self::Import { new, file } => import(connection, new, file),
            Self::List => connection.as_user(list),
            Self::Info { key } => connection.as_user(|engine| {
                let key = engine.call(&FindKey { key: key.0.clone() })?;
                Ok(Answer::new(details(&key), view(&key)))
            }),
            Self::Public { key, out } => {
                out.check()?;
                connection.as_user(|engine| {
                    let reply = engine.call(&PublicKey { key: key.0.clone() })?;
                    let pem = to_pem("PUBLIC KEY", &reply.spki);
                    let mut data = view(&reply.info);
                    data["public_key"] = pem.clone().into();
                    out.write("the public key", &pem, data)
                })
            }
            Self::Delete { key, yes } => connection.as_user(|engine| delete(engine, key, *yes)),
        }
    }
}

impl Algorithm {
    fn parts(&self) -> (KeyAlgorithm, &NewKey) {
        match self {
            Self::Rsa { modulus_size_bits, new } => (
                match modulus_size_bits {
                    Modulus::Bits2048 => KeyAlgorithm::Rsa2048,
                    Modulus::Bits3072 => KeyAlgorithm::Rsa3072,
                    Modulus::Bits4096 => KeyAlgorithm::Rsa4096,
                },
                new,
            ),
            Self::Ec { curve, new } => (
                match curve {
                    Curve::P256 => KeyAlgorithm::P256,
                    Curve::P384 => KeyAlgorithm::P384,
                    Curve::P521 => KeyAlgorithm::P521,
                },
                new,
            ),
            Self::Ed25519 { new } => (KeyAlgorithm::Ed25519, new),
        }
    }
}

fn generate(engine: &LoggedIn, algorithm: &Algorithm) -> Result<Answer, Failure> {
    let (algorithm, new) = algorithm.parts();
    let key = engine.call(&GenerateKey {
        idempotency_key: idempotency_key()?,
        algorithm,
        usage: new.usage,
        label: new.label.clone(),
    })?;
    Ok(Answer::new(details(&key), view(&key)))
}

fn import(connection: &Connection, new: &NewKey, file: &Path) -> Result<Answer, Failure> {
    // Read before the login: a wrong file is the commoner mistake.
    let pkcs8 = private_key::read(file)?;
    let key = connection.as_user(|engine| {
        engine.call(&ImportKey {
            idempotency_key: idempotency_key()?,
            usage: new.usage,
            label: new.label.clone(),
            pkcs8,
        })
    })?;
    Ok(Answer::new(details(&key), view(&key)).note(format!(
        "The private key is still in {0}, where whoever reads it can use it. When the imported key works, destroy\n\
         the file and all its copies and backups:  shred -u {0}\n\
         (shred does little on SSDs and copy-on-write file systems; a new key made by\n\
         hsm key generate-asymmetric-pair was never in a file.)",
        file.display()
    )))
}

fn list(engine: &LoggedIn) -> Result<Answer, Failure> {
    let mut keys: Vec<KeyInfo> = Vec::new();
    loop {
        let after = keys.last().map(|key| key.id);
        let page = engine.call(&ListKeys { after, limit: MAX_PAGE })?;
        let more = page.more && !page.keys.is_empty();
        keys.extend(page.keys);
        if !more {
            break;
        }
    }
    keys.sort_by(|a, b| a.label.cmp(&b.label));
    let views: Vec<_> = keys.iter().map(view).collect();
    Ok(Answer::new(listing(&keys), json!({ "keys": views })))
}

fn delete(engine: &LoggedIn, key: &KeyArgument, yes: bool) -> Result<Answer, Failure> {
    let key = engine.call(&FindKey { key: key.0.clone() })?;
    if !yes {
        confirm(&format!(
            "Delete {} key {} ({}) for good? No copy is kept. Type yes: ",
            key.algorithm, key.label, key.id
        ))?;
    }
    engine.call(&DeleteKey { key: key.id })?;
    Ok(Answer::new(format!("deleted key {} ({})", key.label, key.id), view(&key)))
}

fn confirm(question: &str) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::Declined {
            what: "deleting a key needs a yes, and there is no terminal to ask on",
            advice: Some("give --yes if you mean it"),
        });
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question}").and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Failure::Declined { what: "the answer was not yes", advice: None }),
    }
}

/// A random name for a request, so that sending it again does nothing twice.
pub(crate) fn idempotency_key() -> Result<IdempotencyKey, Failure> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::NoRandom)?;
    Ok(IdempotencyKey(bytes))
}
