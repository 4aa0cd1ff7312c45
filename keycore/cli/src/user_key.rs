//! Registering a user's own key: `hsm user change-quorum token-sign register`, `hsm user change-mfa`.

use std::path::PathBuf;

use clap::Args;
use keycore_wire::{KeyPurpose, SpkiSha256, UserRegisterKey};
use serde_json::json;

use crate::connection::LoggedIn;
use crate::failure::Failure;
use crate::output::Answer;
use crate::own_key::SignedBy;

/// A key of one's own, and the proof that one has it.
#[derive(Debug, Args)]
pub(crate) struct Registration {
    /// PEM file with the public key [default: that of --key]
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Only print the text that the key has to sign
    #[arg(long)]
    print_text: bool,
    #[command(flatten)]
    by: SignedBy,
}

impl Registration {
    /// Registers the key for the user who is logged in.
    pub(crate) fn run(&self, engine: &LoggedIn, purpose: KeyPurpose) -> Result<Answer, Failure> {
        let spki = self.by.public_key(self.public_key.as_deref())?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki);
        let hash = SpkiSha256(hash.as_ref().try_into().map_err(|_| Failure::NoRandom)?);
        let cluster = engine.client.borrow().hello().cluster;
        let cluster = cluster.ok_or_else(|| Failure::Usage("the cluster is not initialized".to_owned()))?;
        let text = purpose.registration(cluster, &engine.user, hash);
        if self.print_text {
            return Ok(Answer::new(text.clone(), json!({ "text": text })));
        }
        let proof = self.by.sign(&text)?;
        let current = Some(engine.password()?);
        engine.call(&UserRegisterKey { purpose, spki, proof, current })?;
        Ok(Answer::new(
            format!("registered {hash} as {}'s key: {}", engine.user, purpose.name()),
            json!({ "user": engine.user, "purpose": purpose.name(), "key": hash.to_string() }),
        ))
    }
}
