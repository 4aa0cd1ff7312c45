//! Keys of certificates that are ordered: made, rotated and deleted in the engines.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keycore_client::Error;
use keycore_client::blocking::Client;
use keycore_wire::{
    DeleteKey, GenerateKey, IdempotencyKey, KeyAlgorithm, KeyId, KeyLabel, KeySelector, KeyTemplate,
    Operation, PublicKey, PublicKeyReply, RefusalCode, RotateKey, Sign,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::engines::Engines;
use crate::acme::CertificateKeys;

/// How long one question may take: RSA keys of 4,096 bits take seconds to make, and nobody waits at a handshake.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keys for certificates, of the same user and in the same engines as the sites'.
pub(super) struct EngineCertificateKeys {
    engines: Arc<Engines>,
    /// Made when first needed, and kept while it is good.
    client: Mutex<Option<Client>>,
}

impl EngineCertificateKeys {
    pub(super) fn new(engines: Arc<Engines>) -> Self {
        Self { engines, client: Mutex::new(None) }
    }

    fn ask<T: Operation>(&self, request: &T) -> Result<T::Reply, Error> {
        // A panic while it was held left at worst a connection in the middle of a call, which `take` removed.
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connected = match client.take() {
            Some(connected) => connected,
            None => self.engines.connect_blocking(PATIENCE)?,
        };
        let reply = connected.call(request);
        // The client itself moves on from an engine that is lost.
        *client = Some(connected);
        reply
    }

    fn public_half(&self, key: KeySelector) -> Result<PublicKeyReply, Error> {
        self.ask(&PublicKey { key })
    }
}

impl CertificateKeys for EngineCertificateKeys {
    fn find(&self, label: &KeyLabel) -> Result<Option<PublicKeyReply>, Error> {
        match self.public_half(KeySelector::Label(label.clone())) {
            Ok(found) => Ok(Some(found)),
            Err(Error::Refused(refusal)) if refusal.code == RefusalCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make(&self, algorithm: KeyAlgorithm, template: KeyTemplate) -> Result<PublicKeyReply, Error> {
        let label = template.label.clone();
        match self.ask(&GenerateKey { idempotency_key: unique(), algorithm, template }) {
            Ok(made) => self.public_half(KeySelector::Id(made.id)),
            Err(Error::Refused(refusal)) if refusal.code == RefusalCode::AlreadyExists => {
                self.public_half(KeySelector::Label(label))
            }
            Err(error) => Err(error),
        }
    }

    fn rotate(&self, key: KeyId, grace: Duration) -> Result<PublicKeyReply, Error> {
        let grace_secs = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        let made = self.ask(&RotateKey { idempotency_key: unique(), key, grace_secs })?;
        self.public_half(KeySelector::Id(made.id))
    }

    fn delete(&self, key: KeyId) -> Result<(), Error> {
        match self.ask(&DeleteKey { key }) {
            Err(Error::Refused(refusal)) if refusal.code == RefusalCode::NotFound => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn sign(
        &self,
        key: KeyId,
        scheme: keycore_wire::SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, Error> {
        Ok(self.ask(&Sign { key, scheme, message })?.bytes)
    }

    fn challenge_key(&self, key: &PublicKeyReply) -> Arc<dyn SigningKey> {
        Arc::new(ChallengeKey {
            key: key.info.id,
            spki: SubjectPublicKeyInfoDer::from(key.spki.clone()),
            engines: Arc::clone(&self.engines),
        })
    }
}

/// Names a request, so that it takes effect once. Random: without random numbers nothing here works anyway.
fn unique() -> IdempotencyKey {
    let mut key = IdempotencyKey([0; 16]);
    // On failure the engine sees a repetition, and refuses or answers with what was made then.
    let _ = aws_lc_rs::rand::fill(&mut key.0);
    key
}

/// A P-256 key of usage `sign`, which answers a challenge and nothing else.
struct ChallengeKey {
    key: KeyId,
    spki: SubjectPublicKeyInfoDer<'static>,
    engines: Arc<Engines>,
}

impl SigningKey for ChallengeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let engines = Arc::clone(&self.engines);
        let signer = ChallengeSigner { key: self.key, engines };
        offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256).then(|| Box::new(signer) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_ref()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl fmt::Debug for ChallengeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChallengeKey({})", self.key)
    }
}

struct ChallengeSigner {
    key: KeyId,
    engines: Arc<Engines>,
}

impl Signer for ChallengeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let scheme = keycore_wire::SignatureScheme::EcdsaP256Sha256;
        self.engines
            .ask(&Sign { key: self.key, scheme, message })
            .map_err(|error| rustls::Error::General(format!("no signature for a challenge: {error}")))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl fmt::Debug for ChallengeSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChallengeSigner({})", self.key)
    }
}
