//! Secrets of session tickets: for each period a key of the user in the engines, which all his proxies find by its label.

use std::time::Duration;

use keycore_client::{Error, Pool};
use keycore_wire::{
    Attribute, Attributes, DeleteKey, FindKey, GenerateKey, Hash, IdempotencyKey, KeyAlgorithm, KeyId,
    KeyLabel, KeySelector, KeyTemplate, RefusalCode, SignData, SignMechanism,
};
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::keys::{TicketSecret, TicketSecretError};

/// How long one question may take. Nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the key makes an authentication code of, and that code is the secret: the key itself never leaves the engines.
const CONTENT: &[u8] = b"hsm-proxy session tickets, version 1";

/// The secret of a period; none if there is no key for it and none is to be made.
pub(super) async fn secret(
    pool: &Pool,
    period: u64,
    make: bool,
) -> Result<Option<TicketSecret>, TicketSecretError> {
    let key = match find(pool, period).await? {
        Some(key) => key,
        None if make => generate(pool, period).await?,
        None => return Ok(None),
    };
    let request =
        SignData { key, mechanism: SignMechanism::Hmac(Hash::Sha256), prehashed: false, data: CONTENT };
    let code = Zeroizing::new(pool.call(&request, deadline()).await?.bytes);
    match <[u8; 32]>::try_from(&code[..]) {
        Ok(secret) => Ok(Some(TicketSecret::new(secret))),
        Err(_) => Err(TicketSecretError::Refused("the engine's code is not of 32 bytes".to_owned())),
    }
}

/// Deletes the key of a period, if there is one.
pub(super) async fn forget(pool: &Pool, period: u64) -> Result<(), TicketSecretError> {
    let Some(key) = find(pool, period).await? else { return Ok(()) };
    match pool.call(&DeleteKey { key }, deadline()).await {
        // Another proxy was quicker.
        Err(Error::Refused(refusal)) if refusal.code == RefusalCode::NotFound => Ok(()),
        outcome => outcome.map(drop).map_err(TicketSecretError::from),
    }
}

async fn find(pool: &Pool, period: u64) -> Result<Option<KeyId>, TicketSecretError> {
    match pool.call(&FindKey { key: KeySelector::Label(label(period)?) }, deadline()).await {
        Ok(key) => Ok(Some(key.id)),
        Err(Error::Refused(refusal)) if refusal.code == RefusalCode::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn generate(pool: &Pool, period: u64) -> Result<KeyId, TicketSecretError> {
    let mut idempotency_key = IdempotencyKey([0; 16]);
    let random = default_provider().secure_random.fill(&mut idempotency_key.0);
    random.map_err(|_| TicketSecretError::Refused("the system gives no random bytes".to_owned()))?;
    let template = KeyTemplate::new(label(period)?, Attributes::of(&[Attribute::Sign]));
    let request = GenerateKey { idempotency_key, algorithm: KeyAlgorithm::GenericSecret(32), template };
    match pool.call(&request, deadline()).await {
        Ok(key) => Ok(key.id),
        // Another proxy was quicker: it is the same key then.
        Err(Error::Refused(refusal)) if refusal.code == RefusalCode::AlreadyExists => {
            let found = find(pool, period).await?;
            found.ok_or_else(|| TicketSecretError::Unreachable("the key came and went".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

fn label(period: u64) -> Result<KeyLabel, TicketSecretError> {
    let label = format!("hsm-proxy-tickets-{period}").parse();
    label.map_err(|error: keycore_wire::InvalidName| TicketSecretError::Refused(error.to_string()))
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

impl From<Error> for TicketSecretError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) if !refusal.code.is_worth_retrying() => {
                Self::Refused(refusal.to_string())
            }
            other => Self::Unreachable(other.to_string()),
        }
    }
}
