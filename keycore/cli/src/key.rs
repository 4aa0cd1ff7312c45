use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hsm_certs::to_pem;
use keycore_wire::{
    DeleteKey, FindKey, GenerateKey, IdempotencyKey, ImportKey, KeyAlgorithm, KeyId, KeyInfo, KeyPage,
    ListKeys, ListSessionKeys, ListSharedKeys, MAX_PAGE, PublicKey, UserName,
};
use serde_json::json;

use crate::connection::{Connection, LoggedIn};
use crate::failure::Failure;
use crate::file::OutputFile;
use crate::key_argument::KeyArgument;
use crate::output::Answer;

mod manage;
mod new;
mod view;
mod wrap;

use manage::{Change, Grace, rotate, set_attribute, share, shares, unshare, zeroize};
pub(crate) use new::NewKey;
use new::{Form, Pair, SecretKey};
use view::listing;
pub(crate) use view::{details, view};
use wrap::{Wrapped, Wrapping, unwrap, wrap};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key pair inside the engine
    #[command(subcommand)]
    GenerateAsymmetricPair(Pair),
    /// Make a secret key inside the engine
    #[command(subcommand)]
    GenerateSymmetric(SecretKey),
    /// Take in a key from a file, unencrypted
    Import {
        #[command(flatten)]
        new: NewKey,
        /// What the file holds: a private key in PEM (PKCS#8, or the older RSA and EC forms), or the bytes of a secret key
        #[arg(long, default_value = "pem", value_enum)]
        form: Form,
        /// The file; it is left as it is
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Write a key, wrapped under another, to a file
    Wrap {
        /// Label, id or hash of the public key; it has to be extractable
        key: KeyArgument,
        #[command(flatten)]
        wrapping: Wrapping,
        /// File to write the bytes to; without it they are printed in Base64
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take in a key from a file, wrapped under another
    Unwrap(Box<Wrapped>),
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
    /// Change an attribute or the label of a key
    SetAttribute {
        /// Label, id or hash of the public key; an admin, who sets trusted, names it by id
        key: KeyArgument,
        #[command(flatten)]
        change: Change,
    },
    /// Let another crypto user use a key
    Share {
        /// Label, id or hash of the public key
        key: KeyArgument,
        /// Who may use it
        #[arg(long, value_name = "USER")]
        with: UserName,
    },
    /// Take back a share
    Unshare {
        /// Label, id or hash of the public key
        key: KeyArgument,
        /// Who may no longer use it
        #[arg(long, value_name = "USER")]
        with: UserName,
    },
    /// Show whom a key is shared with
    Shares {
        /// Label, id or hash of the public key
        key: KeyArgument,
    },
    /// Put a new key in the place of one
    Rotate {
        /// Label, id or hash of the public key
        key: KeyArgument,
        /// How long the old key still verifies, decrypts and unwraps: 90s, 15m, 12h, 30d
        #[arg(long, value_name = "TIME", default_value = "30d")]
        grace: Grace,
    },
    /// Delete all keys of a user for good, as an admin
    Zeroize {
        /// Whose
        #[arg(long, value_name = "USER")]
        owner: UserName,
        /// Don't ask
        #[arg(long)]
        yes: bool,
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

impl KeyCommand {
    pub(crate) fn run(&self, connection: &Connection) -> Result<Answer, Failure> {
        match self {
            Self::GenerateAsymmetricPair(pair) => {
                let (algorithm, new) = pair.parts();
                connection.as_user(|engine| generate(engine, algorithm, new))
            }
            Self::GenerateSymmetric(secret) => {
                let (algorithm, new) = secret.parts();
                connection.as_user(|engine| generate(engine, algorithm, new))
            }
            Self::Import { new, form, file } => import(connection, new, *form, file),
            Self::Wrap { key, wrapping, out } => {
                connection.as_user(|engine| wrap(engine, key, wrapping, out.as_deref()))
            }
            Self::Unwrap(wrapped) => connection.as_user(|engine| unwrap(engine, wrapped)),
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
            Self::SetAttribute { key, change } => {
                connection.as_user(|engine| set_attribute(engine, key, change))
            }
            Self::Share { key, with } => connection.as_user(|engine| share(engine, key, with)),
            Self::Unshare { key, with } => connection.as_user(|engine| unshare(engine, key, with)),
            Self::Shares { key } => connection.as_user(|engine| shares(engine, key)),
            Self::Rotate { key, grace } => connection.as_user(|engine| rotate(engine, key, *grace)),
            Self::Zeroize { owner, yes } => {
                if !yes {
                    confirm(&format!("Delete all keys of {owner} for good? No copy is kept. Type yes: "))?;
                }
                connection.as_user(|engine| zeroize(engine, owner))
            }
            Self::Delete { key, yes } => connection.as_user(|engine| delete(engine, key, *yes)),
        }
    }
}

fn generate(engine: &LoggedIn, algorithm: KeyAlgorithm, new: &NewKey) -> Result<Answer, Failure> {
    let idempotency_key = idempotency_key()?;
    let key = engine.call(&GenerateKey { idempotency_key, algorithm, template: new.template() })?;
    Ok(Answer::new(details(&key), view(&key)))
}

fn import(connection: &Connection, new: &NewKey, form: Form, file: &Path) -> Result<Answer, Failure> {
    // Read before the login: a wrong file is the commoner mistake.
    let plain = form.read(file)?;
    let key = connection.as_user(|engine| {
        let idempotency_key = idempotency_key()?;
        engine.call(&ImportKey { idempotency_key, template: new.template(), key: plain })
    })?;
    Ok(Answer::new(details(&key), view(&key)).note(format!(
        "The key is still in {0}, where whoever reads it can use it. When the imported key works, destroy\n\
         the file and all its copies and backups:  shred -u {0}\n\
         (shred does little on SSDs and copy-on-write file systems; a key that an engine made was never in a file.)",
        file.display()
    )))
}

fn list(engine: &LoggedIn) -> Result<Answer, Failure> {
    let own = pages(|after| engine.call(&ListKeys { after, limit: MAX_PAGE }))?;
    let shared = pages(|after| engine.call(&ListSharedKeys { after, limit: MAX_PAGE }))?;
    let session = engine.call(&ListSessionKeys)?.keys;
    let views = |keys: &[KeyInfo]| keys.iter().map(view).collect::<Vec<_>>();
    let data = json!({ "keys": views(&own), "shared": views(&shared), "session": views(&session) });
    let mut text = listing(&own);
    if !shared.is_empty() {
        text.push_str("\n\nShared with you:\n");
        text.push_str(&listing(&shared));
    }
    if !session.is_empty() {
        text.push_str("\n\nOf this session:\n");
        text.push_str(&listing(&session));
    }
    Ok(Answer::new(text, data))
}

/// All pages of a list, by label.
fn pages(page: impl Fn(Option<KeyId>) -> Result<KeyPage, Failure>) -> Result<Vec<KeyInfo>, Failure> {
    let mut keys: Vec<KeyInfo> = Vec::new();
    loop {
        let next = page(keys.last().map(|key| key.id))?;
        let more = next.more && !next.keys.is_empty();
        keys.extend(next.keys);
        if !more {
            keys.sort_by(|a, b| a.label.cmp(&b.label));
            return Ok(keys);
        }
    }
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

/// Asks for a yes on the terminal.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::Declined {
            what: "this needs a yes, and there is no terminal to ask on",
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
