//! Sealed engines, and how they are opened: by the secret in their configuration, or by what operators and custodians give them.

use core::time::Duration;
use std::sync::Mutex;

use keycore_audit::Peer;
use keycore_backup::{Share, SharePurpose};
use keycore_secmem::SecretBytes;
use keycore_wire::{
    ClusterId, ClusterStatus, InitializeBy, MAX_UNSEAL_PART, NewUnseal, RefusalCode, Request, UnsealCluster,
    UnsealMethod, UnsealStatus,
};
use zeroize::Zeroizing;

use crate::backup;
use crate::cluster::{NewMethod, UnsealError, WrappedRing};
use crate::denial::Denial;
use crate::engine::{Engine, locked};
use crate::error::FollowError;
use crate::lifecycle;
use crate::options::{Now, PasswordCost};
use crate::policy::Permission;
use crate::records::{CLUSTER, ONLY};
use crate::unseal_secret::UnsealSecret;

mod change;
mod custodians;

pub(crate) use change::{being_told, change, in_words};
pub(crate) use custodians::{PreparedShares, confirm, custodians_in_words, prepare};

/// How long a sealed engine keeps the shares that it has, from the first one on.
const SHARES_LAST: Duration = Duration::from_mins(10);

/// What this engine unseals with, and what it has of it.
pub(crate) struct Unsealing {
    /// From the configuration.
    secret: Option<UnsealSecret>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The cluster in the store, while this engine can't open it.
    sealed: Option<Sealed>,
    /// Custodians' shares by their numbers.
    shares: Vec<(u8, SecretBytes)>,
    /// When the first of them came, on the monotonic clock.
    since: Option<Duration>,
}

/// A cluster that can't be opened yet, and which set of shares opens it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sealed {
    cluster: ClusterId,
    split: Option<[u8; 8]>,
}

impl Unsealing {
    pub(crate) fn new(secret: Option<UnsealSecret>) -> Self {
        Self { secret, state: Mutex::default() }
    }

    /// The secret in the configuration, where a method needs one.
    pub(crate) fn secret(&self) -> Result<&UnsealSecret, Denial> {
        self.secret.as_ref().ok_or_else(|| unfit("this engine's configuration has no unseal secret"))
    }

    /// The secret that opens what is wrapped so, unless it is people who have it.
    pub(crate) fn secret_for(&self, wrapped: &WrappedRing) -> Option<&UnsealSecret> {
        self.secret.as_ref().filter(|_| wrapped.split().is_none())
    }

    /// Whether there is a cluster that this engine can't open yet.
    pub(crate) fn is_sealed(&self) -> bool {
        locked(&self.state).sealed.is_some()
    }

    /// Notes which cluster is there to be opened; none if there is none, or it is open.
    pub(crate) fn note(&self, sealed: Option<&WrappedRing>) {
        let mut state = locked(&self.state);
        let sealed = sealed.map(|wrapped| Sealed { cluster: wrapped.cluster(), split: wrapped.split() });
        if state.sealed != sealed {
            state.forget_shares();
        }
        state.sealed = sealed;
    }

    /// Wipes shares whose time is over.
    pub(crate) fn drop_stale(&self, now: Now) {
        let mut state = locked(&self.state);
        if state.since.is_some_and(|since| now.mono.saturating_sub(since) >= SHARES_LAST) {
            state.forget_shares();
        }
    }

    /// Takes a share; what the last ones make, once there are enough. They are kept: what is left to do may fail for a moment, and
    /// nobody should have to call the custodians again for it.
    fn take(&self, share: &Share, needed: u8, now: Now) -> Result<Option<Zeroizing<[u8; 32]>>, Denial> {
        let mut state = locked(&self.state);
        let part = SecretBytes::copy_from(&mut *Zeroizing::new(*share.part()))
            .map_err(|error| Denial::internal(format!("no locked memory: {error}")))?;
        state.shares.retain(|(index, _)| *index != share.index());
        state.shares.push((share.index(), part));
        state.since.get_or_insert(now.mono);
        if state.shares.len() < usize::from(needed) {
            return Ok(None);
        }
        let spare = state.shares.len() - usize::from(needed);
        let shares: Vec<_> = state
            .shares
            .iter()
            .skip(spare)
            .filter_map(|(index, part)| {
                let part = part.expose().try_into().ok()?;
                Some(Share::new(SharePurpose::Unseal, share.of(), needed, *index, part))
            })
            .collect();
        let made = Share::combine(&shares);
        if made.is_err() {
            state.forget_shares();
        }
        made.map(Some).map_err(|error| wrong(error.to_string()))
    }

    /// Wipes the shares: one of them is forged.
    fn forget_shares(&self) {
        locked(&self.state).forget_shares();
    }
}

impl State {
    fn forget_shares(&mut self) {
        self.shares.clear();
        self.since = None;
    }
}

impl Engine {
    /// The cluster that this engine knows of, sealed or not.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        let sealed = || locked(&self.unsealing.state).sealed.map(|sealed| sealed.cluster);
        self.sealing.get().map(crate::seal::SealingKeys::cluster).or_else(sealed)
    }

    /// Refuses what a sealed engine does not do.
    pub(crate) fn check_not_sealed(&self, request: &Request<'_>) -> Result<(), Denial> {
        let answered = matches!(
            request,
            Request::Hello(_) | Request::Ping(_) | Request::ClusterInfo(_) | Request::UnsealCluster(_)
        );
        if !answered && self.sealing.get().is_none() && self.unsealing.is_sealed() {
            return Err(Denial::sealed());
        }
        Ok(())
    }

    /// How the cluster key is kept; none before there is one.
    pub(crate) fn unseal_status(&self) -> Result<Option<UnsealStatus>, Denial> {
        let Some(record) = locked(&self.store).load(CLUSTER, ONLY)? else { return Ok(None) };
        let Ok(wrapped) = WrappedRing::read(&record) else { return Ok(None) };
        let shares = locked(&self.unsealing.state).shares.len();
        let resealing = self.resealing()?;
        Ok(Some(UnsealStatus {
            method: wrapped.method(),
            shares_given: u8::try_from(shares).unwrap_or(u8::MAX),
            generation: self.sealing.get().map(|keys| keys.ring().newest().number),
            resealing,
        }))
    }
}

/// Makes the cluster key, under the method that is asked for.
pub(crate) fn initialize_by(
    engine: &Engine,
    permission: &Permission,
    request: InitializeBy,
    now: Now,
) -> Result<NewUnseal, Denial> {
    let mut method = new_method_here(engine, request.method)?;
    let status = Box::new(lifecycle::initialize_by(engine, permission, &method, now)?);
    Ok(NewUnseal { status, shares: core::mem::take(&mut method.shares) })
}

/// A method, with the secret of this engine's configuration where it is by one.
pub(crate) fn new_method_here(engine: &Engine, method: UnsealMethod) -> Result<NewMethod, Denial> {
    let secret = match method {
        UnsealMethod::Custodians { .. } => None,
        UnsealMethod::Secret | UnsealMethod::Passphrase => Some(engine.unsealing.secret()?),
    };
    new_method(method, secret, engine.options.unseal_cost)
}

/// A method, with the secret where it is by one.
fn new_method(
    method: UnsealMethod,
    secret: Option<&UnsealSecret>,
    cost: PasswordCost,
) -> Result<NewMethod, Denial> {
    let secret = || secret.ok_or_else(|| unfit("this method takes an unseal secret"));
    let made = match method {
        UnsealMethod::Secret => {
            let secret = secret()?;
            if !secret.is_a_key() {
                return Err(unfit(
                    "the unseal secret is no key: 32 random bytes in hexadecimal or padded base64; or choose \
                     the method passphrase",
                ));
            }
            NewMethod::secret(secret)
        }
        UnsealMethod::Passphrase => NewMethod::passphrase(secret()?, cost),
        UnsealMethod::Custodians { needed, of } if Share::fits(needed, of) => {
            NewMethod::custodians(needed, of)
        }
        UnsealMethod::Custodians { .. } => {
            let most = Share::MAX;
            return Err(Denial::malformed(format!("M of N custodians: 2 ≤ M ≤ N ≤ {most}")));
        }
    };
    made.map_err(|error| Denial::internal(error.to_string()))
}

/// Takes a share, or the whole secret, and unseals this engine if that is enough.
pub(crate) fn unseal(
    engine: &Engine,
    permission: &Permission,
    request: &UnsealCluster,
    peer: Option<Peer>,
    now: Now,
) -> Result<ClusterStatus, Denial> {
    let part = request.part.expose();
    if part.is_empty() || part.len() > MAX_UNSEAL_PART {
        return Err(Denial::malformed(format!("what unseals has 1 to {MAX_UNSEAL_PART} bytes")));
    }
    engine.unsealing.drop_stale(now);
    // Guesses at a secret, and shares that cost the custodians a new beginning and the disk a record each.
    engine.guesses.admit(peer, now)?;
    let opened = open(engine, part, now);
    if opened.as_ref().is_err_and(|denial| denial.refusal.code == RefusalCode::WrongUnsealPart) {
        engine.guesses.count(peer, now);
    }
    if opened? && let Some(lost) = engine.lost_log() {
        let detail =
            "unsealed, but the audit log is not the one that was anchored; the engine's log says more";
        return Err(Denial::new(RefusalCode::AuditUnavailable, detail).because(lost.to_string()));
    }
    lifecycle::status(engine, permission)
}

/// Whether it is open now; if not, more shares are needed.
fn open(engine: &Engine, part: &[u8], now: Now) -> Result<bool, Denial> {
    let mut watch = locked(&engine.watch);
    let mut store = locked(&engine.store);
    if engine.sealing.get().is_some() {
        return Err(Denial::cluster_state("this engine is not sealed"));
    }
    let record = store.load(CLUSTER, ONLY)?;
    let record = record.ok_or_else(|| Denial::cluster_state("the cluster is not initialized"))?;
    let damaged = |error: UnsealError| Denial::internal(error.to_string());
    let wrapped = WrappedRing::read(&record).map_err(damaged)?;
    engine.unsealing.note(Some(&wrapped));
    let opened = match (wrapped.split(), wrapped.method()) {
        (Some(split), UnsealMethod::Custodians { needed, of }) => {
            let share = Share::parse(SharePurpose::Unseal, part).map_err(|error| wrong(error.to_string()))?;
            let belongs = share.of() == split && share.threshold() == needed;
            if !belongs || !(1..=of).contains(&share.index()) {
                return Err(wrong("it is a share of another cluster, or of an earlier set of shares"));
            }
            match engine.unsealing.take(&share, needed, now)? {
                Some(secret) => wrapped.open(&*secret),
                None => return Ok(false),
            }
        }
        _ => wrapped.open(part),
    };
    let keys = match opened {
        Ok(keys) => keys,
        Err(UnsealError::WrongSecret) if wrapped.split().is_some() => {
            engine.unsealing.forget_shares();
            return Err(wrong(
                "the shares don't open the cluster, one of them is forged; all were wiped, begin anew",
            ));
        }
        Err(UnsealError::WrongSecret) => return Err(wrong("this secret does not open the cluster")),
        Err(error) => return Err(damaged(error)),
    };
    let told = |error: FollowError| match error {
        FollowError::Store(error) => Denial::store(&error),
        other => Denial::internal(other.to_string()),
    };
    let keys = backup::separate_sessions(&mut **store, keys).map_err(told)?;
    engine.take_keys(&mut watch, &mut **store, keys, now).map_err(told)?;
    Ok(true)
}

/// What the audit log says of a part that was taken.
pub(crate) fn told(status: &ClusterStatus) -> String {
    match status.unseal.as_deref() {
        Some(UnsealStatus {
            generation: None,
            method: UnsealMethod::Custodians { needed, .. },
            shares_given,
            ..
        }) => {
            format!("{shares_given} of {needed} shares are in")
        }
        _ => "unsealed".to_owned(),
    }
}

fn wrong(detail: impl Into<String>) -> Denial {
    Denial::new(RefusalCode::WrongUnsealPart, detail)
}

fn unfit(detail: &str) -> Denial {
    Denial::new(RefusalCode::UnsealSecretUnfit, detail)
}
