//! The engines that sign, and each worker's connections to them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keycore_client::blocking::Client;
use keycore_client::{Endpoint, EngineFailure, Error, Identity, Pool, PoolOptions};
use keycore_wire::{Operation, Signature, SpkiSha256};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::settings;
use crate::handshake;
use crate::keys::{SignerStatus, SigningCounts, TicketSecretError};
use crate::throttle::Throttle;

/// How often a directory is looked at for engines that have come.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the connections to more engines may take until they replace those to fewer.
const REPLACEMENT: Duration = Duration::from_secs(2);

thread_local! {
    /// This worker's connections to the engines; none while there are no engines.
    static WORKER: RefCell<Option<Connected>> = const { RefCell::new(None) };
}

/// All engines of one cluster, for one crypto user.
pub(super) struct Engines {
    place: Place,
    identity: Arc<Identity>,
    /// Longest that one signature may take.
    timeout: Duration,
    /// For those who may block. Made when first needed.
    blocking: Mutex<Option<Client>>,
    failures: Throttle,
}

/// Where engines are.
pub(super) enum Place {
    /// Here.
    Named(Vec<Endpoint>),
    /// At the sockets in this directory, as they come: a proxy may start before its engines.
    In(PathBuf),
}

/// One worker's connections.
#[derive(Clone)]
struct Connected {
    pool: Pool,
    endpoints: Rc<[Endpoint]>,
    /// What each endpoint is called.
    names: Rc<[Arc<str>]>,
}

impl Engines {
    pub(super) fn new(place: Place, identity: Arc<Identity>, timeout: Duration) -> Self {
        Self { place, identity, timeout, blocking: Mutex::new(None), failures: Throttle::new() }
    }

    /// Connects the calling worker, and goes on looking for engines if they may still come.
    pub(super) fn start_worker(self: &Arc<Self>) {
        let endpoints = self.place.endpoints();
        if !endpoints.is_empty() {
            WORKER.set(Some(self.connect(endpoints)));
        }
        if let Place::In(_) = self.place {
            spawn_local(Arc::clone(self).follow());
        }
    }

    pub(super) fn stop_worker() {
        drop(WORKER.take());
    }

    /// The calling worker's connections.
    pub(super) fn pool() -> Result<Pool, TicketSecretError> {
        let nobody = || TicketSecretError::Unreachable("there is no engine yet".to_owned());
        worker().map(|worker| worker.pool).ok_or_else(nobody)
    }

    /// How each engine does, as the calling worker sees it.
    pub(super) fn status(&self) -> Vec<SignerStatus> {
        match worker() {
            Some(worker) => worker.pool.status().into_iter().map(settings::signer_status).collect(),
            None => self.place.nobody().map(settings::missing_signer).into_iter().collect(),
        }
    }

    /// What became of the calling worker's signatures, since its connections were made.
    pub(super) fn counts() -> SigningCounts {
        let Some(worker) = worker() else { return SigningCounts::default() };
        let counters = worker.pool.counters();
        SigningCounts {
            calls: counters.calls,
            failures: counters.failures,
            failovers: counters.failovers,
            hedges: counters.hedges,
            hedge_wins: counters.hedge_wins,
        }
    }

    /// A signature: without blocking the thread inside a worker's fiber, with blocking elsewhere.
    pub(super) fn ask<T: Operation<Reply = Signature>>(&self, request: &T) -> Result<Vec<u8>, Error> {
        let Some(Connected { pool, names, .. }) = worker() else {
            if handshake_fiber::in_fiber() {
                return Err(Error::NoEngine { engines: self.place.nobody().into_iter().collect() });
            }
            return self.ask_blocking(request);
        };
        let call = pool.call_attributed(request, Instant::now() + self.timeout);
        let Ok(reply) = handshake_fiber::wait(call) else { return self.ask_blocking(request) };
        let (signature, engine) = reply?;
        if let Some(handshake) = handshake::current() {
            handshake.signed_by.replace(names.get(engine).cloned());
        }
        Ok(signature.bytes)
    }

    pub(super) fn ask_blocking<T: Operation<Reply = Signature>>(
        &self,
        request: &T,
    ) -> Result<Vec<u8>, Error> {
        // A panic while it was held left at worst a connection in the middle of a call: start anew.
        let mut client = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connected = match client.take() {
            Some(connected) => connected,
            None => self.connect_blocking(self.timeout)?,
        };
        let signature = connected.call(request)?;
        *client = Some(connected);
        Ok(signature.bytes)
    }

    /// A connection for who may block, for calls that take `timeout` at most.
    pub(super) fn connect_blocking(&self, timeout: Duration) -> Result<Client, Error> {
        let endpoints = self.place.endpoints();
        if endpoints.is_empty() {
            return Err(Error::NoEngine { engines: self.place.nobody().into_iter().collect() });
        }
        let mut connected = Client::connect(&endpoints, timeout)?;
        connected.login(&self.identity)?;
        Ok(connected)
    }

    /// Tells the operator that a handshake failed, not more than once a second.
    pub(super) fn complain(&self, site: &str, key: SpkiSha256, error: &Error) {
        if let Some(held_back) = self.failures.pass() {
            tracing::warn!(site, %key, %error, held_back, "no signature for a handshake");
        }
    }

    fn connect(&self, endpoints: Vec<Endpoint>) -> Connected {
        let names = endpoints.iter().map(|endpoint| endpoint.to_string().into()).collect();
        let mut options = PoolOptions::new(endpoints.clone());
        options.identity = Some(Arc::clone(&self.identity));
        options.client_name = concat!("hsm-proxy/", env!("CARGO_PKG_VERSION")).to_owned();
        Connected { pool: Pool::start(options), endpoints: endpoints.into(), names }
    }

    /// Connects to engines that come later, for ever. One that has gone keeps its place: it is expected back.
    async fn follow(self: Arc<Self>) {
        loop {
            sleep(LOOK_AGAIN).await;
            let mut all = worker().map(|worker| worker.endpoints.to_vec()).unwrap_or_default();
            let known = all.len();
            let found = self.place.endpoints();
            all.extend(found.into_iter().filter(|endpoint| !all.contains(endpoint)).collect::<Vec<_>>());
            if all.len() == known {
                continue;
            }
            let connected = self.connect(all);
            // Until then the engines that are connected already go on.
            connected.pool.ready(Instant::now() + REPLACEMENT).await;
            WORKER.set(Some(connected));
        }
    }
}

impl Place {
    /// The engines that are there now.
    fn endpoints(&self) -> Vec<Endpoint> {
        match self {
            Self::Named(endpoints) => endpoints.clone(),
            Self::In(directory) => settings::sockets_in(directory).into_iter().map(Endpoint::from).collect(),
        }
    }

    /// What to say of a directory without engines.
    fn nobody(&self) -> Option<EngineFailure> {
        match self {
            Self::Named(_) => None,
            Self::In(directory) => Some(EngineFailure {
                endpoint: Endpoint::from(directory.join("engine-*.sock")),
                reason: "there is no such socket: is hsm-engine running?".to_owned(),
            }),
        }
    }
}

fn worker() -> Option<Connected> {
    WORKER.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use handshake_fiber::{Fiber, StackPool};
    use keycore_wire::{Secret, SignatureScheme, TlsSign};
    use tokio::net::UnixListener;
    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn engines_may_come_after_the_proxy() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::with_password("web".parse().unwrap(), Secret::new(b"password".to_vec()));
        let place = Place::In(directory.path().to_owned());
        let engines = Arc::new(Engines::new(place, identity, Duration::from_secs(5)));
        LocalSet::new()
            .run_until(async {
                engines.start_worker();
                let status = engines.status();
                assert!(status.len() == 1 && !status[0].up, "{status:?}");
                let (asked, message) = (Arc::clone(&engines), [7; 32]);
                let signature = Fiber::new(&StackPool::new(1), async move {
                    let (key, scheme) = (SpkiSha256([1; 32]), SignatureScheme::EcdsaP256Sha256);
                    asked.ask(&TlsSign { key, scheme, site: "a.example", message: &message })
                });
                let error = signature.unwrap().await.unwrap_err().to_string();
                assert!(error.contains("is hsm-engine running?"), "{error}");

                for name in ["engine-0.sock", "engine-1.sock"] {
                    let path = directory.path().join(name);
                    let engine = UnixListener::bind(&path).unwrap();
                    let found = async {
                        let _connection = engine.accept().await.unwrap();
                        while engines.status().last().unwrap().name != path.to_string_lossy() {
                            sleep(Duration::from_millis(100)).await; // until it replaces the connections before
                        }
                    };
                    timeout(Duration::from_secs(30), found).await.unwrap();
                }
                assert_eq!(engines.status().len(), 2);
                Engines::stop_worker();
            })
            .await;
    }
}
