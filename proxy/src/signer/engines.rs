//! The engines that sign, and each worker's connections to them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keycore_client::blocking::Client;
use keycore_client::{Endpoint, EngineFailure, Error, Identity, Pool, PoolOptions};
use keycore_wire::{Operation, RefusalCode, Signature, SpkiSha256, TlsSign, TlsSignTimed};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::settings;
use crate::handshake::{self, EngineTime};
use crate::keys::{SignerStatus, SigningCounts, TicketSecretError};
use crate::throttle::Throttle;

/// How often a directory is looked at for engines that have come.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the connections to more engines may take until they replace those to fewer.
const REPLACEMENT: Duration = Duration::from_secs(2);

/// How long engines that don't tell what a signature took are not asked for it. One that is newer may come in their place.
const UNTOLD: Duration = Duration::from_mins(1);

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
    /// Until when no engine is asked what its signatures take, since one did not know the question.
    untold_until: Rc<Cell<Option<Instant>>>,
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
            handshake.signed(names.get(engine).cloned(), None);
        }
        Ok(signature.bytes)
    }

    /// The signature of a handshake, as [`Engines::ask`]; the handshake learns what of its time the engine took, if that one tells.
    pub(super) fn sign_handshake(&self, request: &TlsSign<'_>) -> Result<Vec<u8>, Error> {
        let (Some(worker), Some(handshake)) = (worker(), handshake::current()) else {
            return self.ask(request);
        };
        let reply = handshake_fiber::wait(worker.signed_and_timed(request, Instant::now() + self.timeout));
        let Ok(reply) = reply else { return self.ask_blocking(request) };
        let (bytes, engine, time) = reply?;
        handshake.signed(worker.names.get(engine).cloned(), time);
        Ok(bytes)
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
        let untold_until = Rc::default();
        Connected { pool: Pool::start(options), endpoints: endpoints.into(), names, untold_until }
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

impl Connected {
    /// A signature, which of the engines made it, and what it took there, if that one tells. One of the version before does not know the
    /// question, and is asked for the signature alone.
    async fn signed_and_timed(
        &self,
        request: &TlsSign<'_>,
        deadline: Instant,
    ) -> Result<(Vec<u8>, usize, Option<EngineTime>), Error> {
        if self.untold_until.get().is_none_or(|until| Instant::now() >= until) {
            match self.pool.call_attributed(&TlsSignTimed(*request), deadline).await {
                Err(Error::Refused(refusal)) if refusal.code == RefusalCode::UnknownOperation => {
                    self.untold_until.set(Some(Instant::now() + UNTOLD));
                }
                reply => {
                    let (signature, engine) = reply?;
                    let time = EngineTime::of(&signature);
                    return Ok((signature.bytes, engine, Some(time)));
                }
            }
        }
        let (signature, engine) = self.pool.call_attributed(request, deadline).await?;
        Ok((signature.bytes, engine, None))
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
mod tests;
