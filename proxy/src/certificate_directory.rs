//! Certificates that are looked up when a client asks for their name: a directory of PEM files, named by host.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio::sync::{OnceCell, Semaphore};

use crate::certificate_files::LoadedCertificate;
use crate::clients::SharedBucket;
use crate::config::{HostPattern, Rate};
use crate::keys::KeySource;
use crate::metrics::{Lookup, Lookups};
use crate::throttle::Throttle;

/// Finds the certificate of a name, wherever certificates are.
pub(crate) trait CertificateLookup: Send + Sync + fmt::Debug {
    /// The certificate for this name, in lower case and without a dot at its end; `None` if there is no such site.
    /// Called on a worker's thread: it must not block.
    fn find<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Found<Arc<CertifiedKey>>> + 'a>>;
}

/// What a lookup found.
pub(crate) type Found<T> = Result<Option<T>, LookupError>;

/// There may be a certificate, but it can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The file is not good.
    #[error("{0}")]
    Unusable(Arc<str>),
    /// Too many names that are in no cache.
    #[error("too many certificates are looked up")]
    Busy,
}

/// Certificates that are remembered: those asked for last.
const KNOWN: usize = 48 * 1024;

/// Names without a usable certificate that are remembered. Apart from the others: whoever asks for invented names drives
/// out no certificate.
const REFUSED: usize = 16 * 1024;

/// Parts of the caches, each with its lock.
const SHARDS: usize = 16;

/// After this time a file is looked at again, and one that was not there, too.
const RECHECK: Duration = Duration::from_secs(10);

/// Lookups that are with the file system at a time, each on a thread of its own.
const AT_A_TIME: usize = 8;

/// Lookups in a second that no cache answers; beyond it handshakes are refused.
const MOST: Rate = Rate::per_second(10_000);

/// A chain of certificates has some kilobytes.
const LARGEST: u64 = 256 * 1024;

/// Files that went bad of which the log tells at once; then one in a second. A broken rollout spoils all of them.
const COMPLAINTS: u64 = 16;

/// What a file system takes as a name, less `.pem`.
const LONGEST_NAME: usize = 251;

/// A directory of PEM files: `www.example.org.pem`, and `_.example.org.pem` for all names of one label more than the domain.
pub(crate) struct CertificateDirectory {
    path: PathBuf,
    keys: Arc<dyn KeySource>,
    start: Instant,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    at_a_time: Semaphore,
    budget: SharedBucket,
    lookups: Arc<Lookups>,
    complaints: Throttle,
    /// What was found to end first, and until when that is good enough.
    first_end: Mutex<Option<(OffsetDateTime, Duration)>>,
}

/// A part of the names.
struct Shard {
    known: LruCache<HostPattern, Known>,
    refused: LruCache<HostPattern, Refused>,
    /// Whoever else asks meanwhile waits for the same answer.
    pending: HashMap<HostPattern, Arc<Answer>>,
}

type Answer = OnceCell<Found<Arc<LoadedCertificate>>>;

struct Known {
    certificate: Arc<LoadedCertificate>,
    recheck: Duration,
}

struct Refused {
    reason: Option<LookupError>,
    recheck: Duration,
}

impl CertificateDirectory {
    /// The certificates in this directory, with these keys. Reads none of them.
    ///
    /// # Errors
    ///
    /// If it can't be read, or is no directory.
    pub(crate) fn open(
        path: &Path,
        keys: Arc<dyn KeySource>,
        lookups: Arc<Lookups>,
    ) -> std::io::Result<Arc<Self>> {
        std::fs::read_dir(path)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            keys,
            start: Instant::now(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            at_a_time: Semaphore::new(AT_A_TIME),
            budget: SharedBucket::new(MOST),
            lookups,
            complaints: Throttle::bursts(COMPLAINTS, Duration::from_secs(1)),
            first_end: Mutex::default(),
        }))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// When the first of the certificates ends that are remembered; `None` if none was asked for. Looks at all of them, so not more
    /// often than at their files.
    pub(crate) fn first_end(&self) -> Option<OffsetDateTime> {
        let now = self.start.elapsed();
        let mut known = self.first_end.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, until)) = *known
            && now < until
        {
            return Some(first);
        }
        let first_of = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.known.iter().map(|(_, known)| known.certificate.not_after).min()
        };
        let first = self.shards.iter().filter_map(first_of).min();
        *known = first.map(|first| (first, now + RECHECK));
        first
    }

    async fn find(&self, name: &str) -> Found<Arc<LoadedCertificate>> {
        // Nothing else gets to the file system: no separator, no `..`, no empty label.
        let Ok(host) = name.parse::<HostPattern>() else { return Ok(None) };
        if host.is_any() || host.wildcard_suffix().is_some() {
            return Ok(None);
        }
        if let Some(certificate) = self.of_file(&host).await? {
            return Ok(Some(certificate));
        }
        let wildcard = name.split_once('.').and_then(|(_, parent)| format!("*.{parent}").parse().ok());
        match wildcard {
            Some(wildcard) => self.of_file(&wildcard).await,
            None => Ok(None),
        }
    }

    /// What the one file of this name or wildcard holds.
    async fn of_file(&self, host: &HostPattern) -> Found<Arc<LoadedCertificate>> {
        let (answer, previous) = {
            let now = self.start.elapsed();
            let mut shard = self.shard(host);
            let previous = match shard.known.get(host) {
                Some(known) if now < known.recheck => {
                    self.lookups.count(Lookup::Cached);
                    return Ok(Some(Arc::clone(&known.certificate)));
                }
                known => known.map(|known| Arc::clone(&known.certificate)),
            };
            if let Some(refused) = shard.refused.get(host).filter(|refused| now < refused.recheck) {
                self.lookups.count(Lookup::Cached);
                return refused.reason.clone().map_or(Ok(None), Err);
            }
            (Arc::clone(shard.pending.entry(host.clone()).or_default()), previous)
        };
        let waiting = Waiting { directory: self, host, answer: &answer };
        let found = answer.get_or_init(|| self.look(host, previous)).await.clone();
        drop(waiting);
        found
    }

    /// Asks the file system, and remembers its answer.
    async fn look(
        &self,
        host: &HostPattern,
        previous: Option<Arc<LoadedCertificate>>,
    ) -> Found<Arc<LoadedCertificate>> {
        let found = self.ask(host, previous.clone()).await;
        self.lookups.count(match &found {
            Ok(Some(_)) => Lookup::Read,
            Ok(None) => Lookup::Absent,
            Err(LookupError::Unusable(_)) => Lookup::Unusable,
            Err(LookupError::Busy) => Lookup::Busy,
        });
        let found = match (found, previous) {
            // As at a reload: the last good one.
            (Err(error), Some(previous)) => {
                if error != LookupError::Busy
                    && let Some(held_back) = self.complaints.pass()
                {
                    tracing::error!(site = host.as_str(), %error, held_back, "the certificate from before is kept");
                }
                Ok(Some(previous))
            }
            (found, _) => found,
        };
        let recheck = self.start.elapsed() + RECHECK;
        let mut shard = self.shard(host);
        match &found {
            Ok(Some(certificate)) => {
                let certificate = Arc::clone(certificate);
                shard.refused.pop(host);
                shard.known.put(host.clone(), Known { certificate, recheck });
            }
            // Of the moment, and not of this name.
            Err(LookupError::Busy) => {}
            Ok(None) | Err(LookupError::Unusable(_)) => {
                shard.known.pop(host);
                shard.refused.put(host.clone(), Refused { reason: found.clone().err(), recheck });
            }
        }
        found
    }

    async fn ask(
        &self,
        host: &HostPattern,
        previous: Option<Arc<LoadedCertificate>>,
    ) -> Found<Arc<LoadedCertificate>> {
        if host.as_str().len() > LONGEST_NAME {
            return Ok(None);
        }
        if self.budget.take().is_err() {
            return Err(LookupError::Busy);
        }
        // Never closed.
        let Ok(_permit) = self.at_a_time.acquire().await else { return Err(LookupError::Busy) };
        let (path, host, keys) = (self.path.join(file_name(host)), host.clone(), Arc::clone(&self.keys));
        let read = tokio::task::spawn_blocking(move || {
            LoadedCertificate::of_host(&path, &host, &*keys, previous.as_ref(), LARGEST)
        });
        match read.await {
            Ok(read) => read.map_err(|error| LookupError::Unusable(error.to_string().into())),
            Err(ended) => Err(LookupError::Unusable(ended.to_string().into())),
        }
    }

    fn shard(&self, host: &HostPattern) -> MutexGuard<'_, Shard> {
        // Its low bits: there are fewer shards than 2^16.
        let at = usize::from(self.hasher.hash_one(host).to_le_bytes()[0]) % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CertificateLookup for CertificateDirectory {
    fn find<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Found<Arc<CertifiedKey>>> + 'a>> {
        Box::pin(async move {
            let found = Self::find(self, name).await?;
            Ok(found.map(|loaded| Arc::clone(&loaded.certified_key)))
        })
    }
}

impl fmt::Debug for CertificateDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateDirectory({})", self.path.display())
    }
}

impl Shard {
    fn new() -> Self {
        let part = |all: usize| NonZeroUsize::new(all / SHARDS).unwrap_or(NonZeroUsize::MIN);
        Self {
            known: LruCache::new(part(KNOWN)),
            refused: LruCache::new(part(REFUSED)),
            pending: HashMap::new(),
        }
    }
}

/// Somebody who waits for an answer. The last one, or the first who has it, takes it off the list: so the list is no longer
/// than there are handshakes, even if their clients go.
struct Waiting<'a> {
    directory: &'a CertificateDirectory,
    host: &'a HostPattern,
    answer: &'a Arc<Answer>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut shard = self.directory.shard(self.host);
        let is_mine = shard.pending.get(self.host).is_some_and(|known| Arc::ptr_eq(known, self.answer));
        // Two: the list's and this one.
        if is_mine && (self.answer.initialized() || Arc::strong_count(self.answer) == 2) {
            shard.pending.remove(self.host);
        }
    }
}

/// The name of the file for this name or wildcard.
fn file_name(host: &HostPattern) -> String {
    match host.wildcard_suffix() {
        Some(suffix) => format!("_.{suffix}.pem"),
        None => format!("{host}.pem"),
    }
}

/// The name or wildcard that a file of this name is for; `None` if it is for none.
pub(crate) fn host_of(file_name: &str) -> Option<HostPattern> {
    let stem = file_name.strip_suffix(".pem")?;
    let host: HostPattern = match stem.strip_prefix("_.") {
        Some(suffix) => format!("*.{suffix}").parse().ok()?,
        None => stem.parse().ok()?,
    };
    // Upper case, for one, is never looked for.
    (self::file_name(&host) == file_name && !host.is_any()).then_some(host)
}

#[cfg(test)]
mod tests;
