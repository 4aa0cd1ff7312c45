//! Keys that live in the engines.

mod algorithm;
mod scheme;
mod settings;

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error, Identity, Pool, PoolOptions};
use keycore_wire::{KeyAlgorithm, MAX_SITE, SpkiSha256, TlsSign};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use tokio::time::Instant;

pub use settings::SettingsError;

use crate::chain::spki_sha256;
use crate::handshake;
use crate::keys::{KeyError, KeySource, SignerStatus};
use crate::throttle::Throttle;

thread_local! {
    /// This worker's connections to the engines.
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

/// The keys of one crypto user, in the engines.
///
/// Inside a worker's fiber, a signature is asked for through the worker's [`Pool`] while the worker goes on with
/// other connections. Anywhere else (`hsm-proxy check`, a test) it blocks, with the same deadline.
pub struct EngineKeys {
    engines: Arc<Engines>,
}

/// What all keys share.
struct Engines {
    endpoints: Vec<Endpoint>,
    /// What each endpoint is called.
    names: Vec<Arc<str>>,
    identity: Arc<Identity>,
    /// Longest that one signature may take.
    timeout: Duration,
    /// For those who may block. Made when first needed.
    blocking: Mutex<Option<Client>>,
    failures: Throttle,
}

impl EngineKeys {
    /// Keys of whoever `identity` is, in these engines; a signature may take `timeout`. Connects to nothing yet.
    pub fn new(endpoints: Vec<Endpoint>, identity: Arc<Identity>, timeout: Duration) -> Self {
        let blocking = Mutex::new(None);
        let names = endpoints.iter().map(|endpoint| endpoint.to_string().into()).collect();
        Self {
            engines: Arc::new(Engines {
                endpoints,
                names,
                identity,
                timeout,
                blocking,
                failures: Throttle::new(),
            }),
        }
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
        let mut options = PoolOptions::new(self.engines.endpoints.clone());
        options.identity = Some(Arc::clone(&self.engines.identity));
        options.client_name = concat!("hsm-proxy/", env!("CARGO_PKG_VERSION")).to_owned();
        POOL.set(Some(Pool::start(options)));
    }

    fn stop_worker(&self) {
        drop(POOL.take());
    }

    fn signers(&self) -> Vec<SignerStatus> {
        let Some(pool) = pool() else { return Vec::new() };
        pool.status().into_iter().map(settings::signer_status).collect()
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
    /// As [`Client::call`].
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
        let site = handshake.as_deref().map_or("", |handshake| &handshake.site);
        let request = TlsSign { key: self.key, scheme: self.scheme, site: bounded(site), message };
        self.engines.ask(&request).map_err(|error| {
            if let Some(held_back) = self.engines.failures.pass() {
                tracing::warn!(site, key = %self.key, %error, held_back, "no signature for a handshake");
            }
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

impl Engines {
    /// Without blocking the thread inside a worker's fiber, with blocking elsewhere.
    fn ask(&self, request: &TlsSign<'_>) -> Result<Vec<u8>, Error> {
        if let Some(pool) = pool()
            && let Ok(reply) =
                handshake_fiber::wait(pool.call_attributed(request, Instant::now() + self.timeout))
        {
            let (signature, engine) = reply?;
            if let Some(handshake) = handshake::current() {
                handshake.signed_by.replace(self.names.get(engine).cloned());
            }
            return Ok(signature.bytes);
        }
        self.ask_blocking(request)
    }

    fn ask_blocking(&self, request: &TlsSign<'_>) -> Result<Vec<u8>, Error> {
        // A panic while it was held left at worst a connection in the middle of a call: start anew.
        let mut client = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connected = match client.take() {
            Some(connected) => connected,
            None => {
                let mut connected = Client::connect(&self.endpoints, self.timeout)?;
                connected.login(&self.identity)?;
                connected
            }
        };
        let signature = connected.call(request)?;
        *client = Some(connected);
        Ok(signature.bytes)
    }
}

fn pool() -> Option<Pool> {
    POOL.with_borrow(Clone::clone)
}

/// What the audit log takes of a site's name.
fn bounded(site: &str) -> &str {
    site.get(..MAX_SITE).unwrap_or(site)
}

#[cfg(test)]
mod tests;
