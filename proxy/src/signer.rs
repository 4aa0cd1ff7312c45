//! Keys that live in the engines.

mod algorithm;
mod certificate_keys;
mod engines;
mod scheme;
mod settings;
mod tickets;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use keycore_client::{Endpoint, Error, Identity};
use keycore_wire::{KeyAlgorithm, MAX_SITE, SpkiSha256, TlsSign};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

pub use settings::SettingsError;
pub(crate) use settings::{DEFAULT_ENGINES, engine_addresses};

use certificate_keys::EngineCertificateKeys;
use engines::{Engines, Place};

use crate::acme::CertificateKeys;
use crate::chain::spki_sha256;
use crate::handshake;
use crate::keys::{Asked, KeyError, KeySource, SignerStatus, SigningCounts, TicketSecret};
use crate::upstream::asked_server;

/// The keys of one crypto user, in the engines.
///
/// Inside a worker's fiber, a signature is asked for through the worker's [`Pool`](keycore_client::Pool) while the worker goes on with
/// other connections. Anywhere else (`hsm-proxy check`, a test) it blocks, with the same deadline.
pub struct EngineKeys {
    engines: Arc<Engines>,
}

impl EngineKeys {
    /// Keys of whoever `identity` is, in these engines; a signature may take `timeout`. Connects to nothing yet.
    pub fn new(endpoints: Vec<Endpoint>, identity: Arc<Identity>, timeout: Duration) -> Self {
        Self::of(Place::Named(endpoints), identity, timeout)
    }

    fn of(place: Place, identity: Arc<Identity>, timeout: Duration) -> Self {
        Self { engines: Arc::new(Engines::new(place, identity, timeout)) }
    }

    /// The key with this public key. That the engines have it turns out when it signs.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if engines can't have such a key.
    pub fn key(&self, spki: &SubjectPublicKeyInfoDer<'_>) -> Result<EngineSigningKey, KeyError> {
        Ok(EngineSigningKey {
            algorithm: algorithm::of(spki)?,
            id: spki_sha256(spki),
            spki: spki.clone().into_owned(),
            engines: Arc::clone(&self.engines),
        })
    }
}

impl KeySource for EngineKeys {
    fn signing_key(&self, spki: &SubjectPublicKeyInfoDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError> {
        Ok(Arc::new(self.key(spki)?))
    }

    fn start_worker(&self) {
        self.engines.start_worker();
    }

    fn stop_worker(&self) {
        Engines::stop_worker();
    }

    fn ticket_secret(&self, period: u64, make: bool) -> Asked<'_, Option<TicketSecret>> {
        Box::pin(async move { tickets::secret(&Engines::pool()?, period, make).await })
    }

    fn forget_ticket_secret(&self, period: u64) -> Asked<'_, ()> {
        Box::pin(async move { tickets::forget(&Engines::pool()?, period).await })
    }

    fn certificate_keys(&self) -> Option<Arc<dyn CertificateKeys>> {
        Some(Arc::new(EngineCertificateKeys::new(Arc::clone(&self.engines))))
    }

    fn signers(&self) -> Vec<SignerStatus> {
        self.engines.status()
    }

    fn counts(&self) -> SigningCounts {
        Engines::counts()
    }
}

/// A site's private key, as the proxy knows it: by its public key.
pub struct EngineSigningKey {
    algorithm: KeyAlgorithm,
    id: SpkiSha256,
    spki: SubjectPublicKeyInfoDer<'static>,
    engines: Arc<Engines>,
}

impl EngineSigningKey {
    /// Its algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Asks an engine for a signature, and blocks until it is there.
    ///
    /// # Errors
    ///
    /// As [`Client::call`](keycore_client::blocking::Client::call).
    pub fn sign_blocking(
        &self,
        scheme: keycore_wire::SignatureScheme,
        site: &str,
        message: &[u8],
    ) -> Result<Vec<u8>, Error> {
        self.engines.ask_blocking(&TlsSign { key: self.id, scheme, site: bounded(site), message })
    }
}

impl SigningKey for EngineSigningKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = scheme::choose(self.algorithm, offered)?;
        Some(Box::new(EngineSigner { key: self.id, scheme, engines: Arc::clone(&self.engines) }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_ref()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.algorithm {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => SignatureAlgorithm::RSA,
            KeyAlgorithm::P256 | KeyAlgorithm::P384 | KeyAlgorithm::P521 => SignatureAlgorithm::ECDSA,
            KeyAlgorithm::Ed25519 => SignatureAlgorithm::ED25519,
            // `algorithm::of` gives no other.
            _ => SignatureAlgorithm::Anonymous,
        }
    }
}

impl fmt::Debug for EngineSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineSigningKey({}, {})", self.algorithm, self.id)
    }
}

/// One signature to be made.
struct EngineSigner {
    key: SpkiSha256,
    scheme: keycore_wire::SignatureScheme,
    engines: Arc<Engines>,
}

impl Signer for EngineSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let handshake = handshake::current();
        let server = asked_server();
        let site = match (&handshake, &server) {
            (Some(handshake), _) => &*handshake.site,
            (None, Some(server)) => server,
            (None, None) => "",
        };
        let request = TlsSign { key: self.key, scheme: self.scheme, site: bounded(site), message };
        self.engines.sign_handshake(&request).map_err(|error| {
            self.engines.complain(site, self.key, &error);
            rustls::Error::General(format!("no signature: {error}"))
        })
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::from(self.scheme.code())
    }
}

impl fmt::Debug for EngineSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineSigner({:?}, {})", self.scheme, self.key)
    }
}

/// What the audit log takes of a site's name.
fn bounded(site: &str) -> &str {
    site.get(..MAX_SITE).unwrap_or(site)
}

#[cfg(test)]
mod tests;
