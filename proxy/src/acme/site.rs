//! The certificate of one site, through its whole life.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hsm_certs::ServerNames;
use keycore_wire::{Attribute, Attributes, KeyLabel, KeyTemplate, PublicKeyReply};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::account::{Account, AccountKey, Directory};
use super::challenges::Challenges;
use super::failure::Failure;
use super::https::Https;
use super::keys::CertificateKeys;
use super::order::Orderer;
use super::renewal::{self, Window};
use super::state::{Progress, SiteFiles};
use super::{on_blocking_thread, random_fraction};
use crate::chain::{Chain, parse};
use crate::config::{AcmeSettings, HostPattern};
use crate::metrics::AcmeMetrics;

/// One attempt, from the directory to the certificate in its file.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// After so many attempts in a row, an order that is never done is given up for another.
const SLOW_ATTEMPTS: u32 = 3;

/// How long a task sleeps at most: the clock of the machine may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(900);

/// How often it is looked whether another proxy with the same directory is done, or engines are there.
const SOMEBODY_ELSE: Duration = Duration::from_secs(5);

/// An old key makes handshakes for so much longer than certificates live: others may have one of its last day.
const KEY_MARGIN: Duration = Duration::from_secs(24 * 3600);

/// How far the authority's clock may be ahead.
const SKEW: Duration = Duration::from_secs(300);

/// Longest chain in PEM that is installed, in bytes; and in certificates. Each handshake carries it.
const LONGEST_CHAIN: usize = 64 * 1024;
const MOST_CERTIFICATES: usize = 10;

/// A site whose certificate comes by ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcmeSite {
    pub(super) name: Box<str>,
    hosts: Vec<HostPattern>,
    names: ServerNames,
    files: SiteFiles,
}

impl AcmeSite {
    /// `None` if its hosts can't be in a certificate, which the configuration refuses.
    pub(crate) fn new(hosts: &[HostPattern], certificate: &Path) -> Option<Self> {
        let names = hosts.iter().map(|host| host.as_str().parse()).collect::<Result<Vec<_>, _>>().ok()?;
        Some(Self {
            name: hosts.first()?.as_str().into(),
            hosts: hosts.to_vec(),
            names: ServerNames::new(names).ok()?,
            files: SiteFiles { certificate: certificate.to_owned() },
        })
    }

    /// What it orders and where, as [`Progress`] is told apart.
    fn purpose(&self, settings: &AcmeSettings) -> String {
        let names: Vec<_> = self.hosts.iter().map(HostPattern::as_str).collect();
        format!("{} {} {}", settings.directory, settings.challenge.name(), names.join(" "))
    }

    /// The label of its keys, the newest of which has it.
    pub(super) fn key_label(&self, settings: &AcmeSettings) -> Result<KeyLabel, Failure> {
        let kind = settings.key_type.algorithm();
        let label = format!("hsm-proxy-acme-{}-{kind}", self.name);
        if let Ok(label) = label.parse() {
            return Ok(label);
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.name.as_bytes());
        let short = data_encoding::HEXLOWER.encode(&hash.as_ref()[..16]);
        format!("hsm-proxy-acme-{short}-{kind}").parse().map_err(|_| Failure::WrongKey(label))
    }

    /// The certificate that is there, if it is one for all hosts.
    pub(super) async fn certificate(&self) -> Option<Chain> {
        let this = self.clone();
        let load = move || Ok(Chain::load(&this.files.certificate).ok().filter(|chain| this.is_for(chain)));
        on_blocking_thread(load).await.ok().flatten()
    }

    fn is_for(&self, chain: &Chain) -> bool {
        self.hosts.iter().all(|host| chain.covers(host))
    }
}

/// What all sites' tasks share.
pub(super) struct Shared {
    pub(super) settings: AcmeSettings,
    pub(super) https: Arc<Https>,
    pub(super) keys: Arc<dyn CertificateKeys>,
    pub(super) challenges: Arc<Challenges>,
    pub(super) metrics: Arc<AcmeMetrics>,
    /// Orders at once.
    pub(super) room: Semaphore,
    /// One attempt.
    pub(super) patience: Duration,
}

impl Shared {
    /// Sees to the site's certificate, for ever.
    pub(super) async fn follow(self: Arc<Self>, site: AcmeSite) {
        let mut schedule = Schedule::new();
        // What the file does not know if it can't be written.
        let mut known = Progress::default();
        loop {
            let mut progress = self.progress(&site).await;
            progress.heed(&known);
            let pause = progress.pause(SystemTime::now());
            let due = match self.until_due(&site, &mut schedule).await {
                Some(wait) => wait,
                None => Duration::ZERO,
            };
            let wait = due.max(pause);
            self.metrics.next(&site.name, SystemTime::now() + wait);
            if !due.is_zero() {
                // Here or elsewhere, there was a success.
                known.failures = 0;
            }
            if !wait.is_zero() {
                sleep(wait.min(LONGEST_SLEEP)).await;
                continue;
            }
            let Ok(_permit) = self.room.acquire().await else { return };
            self.attempt(&site, &mut progress, &mut schedule).await;
            known = Progress { order: None, ..progress };
        }
    }

    /// Has the account's key known to those who answer over HTTP, also where another proxy orders.
    pub(super) async fn introduce(self: Arc<Self>) {
        loop {
            match AccountKey::open(&self.settings, &self.keys).await {
                Ok(key) => return self.challenges.account(&key.thumbprint),
                Err(error) => tracing::debug!(%error, "no account key yet"),
            }
            sleep(SOMEBODY_ELSE).await;
        }
    }

    /// How long until the certificate is to be renewed; `None` if there is none.
    pub(super) async fn until_due(&self, site: &AcmeSite, schedule: &mut Schedule) -> Option<Duration> {
        let chain = site.certificate().await?;
        let at = match schedule.advice(self, &chain).await {
            Some(window) => window.at(schedule.fraction, renewal::latest(&chain)),
            None => renewal::at_two_thirds(&chain, schedule.fraction),
        };
        let wait = at - OffsetDateTime::now_utc();
        Some(Duration::try_from(wait).unwrap_or_default())
    }

    pub(super) async fn progress(&self, site: &AcmeSite) -> Progress {
        let (files, purpose) = (site.files.clone(), site.purpose(&self.settings));
        let fresh = Progress { of: purpose.clone(), ..Progress::default() };
        on_blocking_thread(move || Ok(files.read(&purpose))).await.unwrap_or(fresh)
    }

    /// Orders a certificate, unless somebody else does or did.
    pub(super) async fn attempt(&self, site: &AcmeSite, progress: &mut Progress, schedule: &mut Schedule) {
        let files = site.files.clone();
        let lock = match on_blocking_thread(move || files.lock()).await {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => {
                tracing::debug!(site = &*site.name, "another process orders the certificate");
                sleep(SOMEBODY_ELSE).await;
                return;
            }
            Err(failure) => Err(failure),
        };
        let started = SystemTime::now();
        let outcome = match lock {
            Ok(_lock) => {
                // Somebody else may have been quicker.
                if self.until_due(site, schedule).await.is_some_and(|wait| !wait.is_zero()) {
                    return;
                }
                let ordered = timeout(self.patience, self.order(site, progress)).await;
                let outcome = ordered.unwrap_or(Err(Failure::TooSlow(self.patience)));
                self.note(site, progress, &outcome).await;
                outcome
            }
            Err(failure) => {
                // Nothing can be kept there: `follow` remembers it.
                let outcome = Err(failure);
                self.note(site, progress, &outcome).await;
                outcome
            }
        };
        self.metrics.attempted(&site.name, started, outcome.is_ok());
        match outcome {
            Ok(chain) => {
                schedule.fraction = random_fraction();
                schedule.window = None;
                tracing::info!(
                    site = &*site.name,
                    not_after = %chain.not_after(),
                    "a new certificate is there"
                );
            }
            Err(error) => {
                let retry_in = progress.pause(SystemTime::now()).as_secs();
                let failures = progress.failures;
                tracing::error!(site = &*site.name, %error, failures, retry_in, "no new certificate");
            }
        }
    }

    /// Keeps what became of an attempt.
    async fn note(&self, site: &AcmeSite, progress: &mut Progress, outcome: &Result<Chain, Failure>) {
        match outcome {
            Ok(chain) => {
                *progress = Progress { of: std::mem::take(&mut progress.of), ..Progress::default() };
                progress.rest(SystemTime::now(), renewal::rest(renewal::life(chain), self.settings.retry));
            }
            Err(failure) => {
                progress.failures = progress.failures.saturating_add(1);
                let pause = renewal::pause(progress.failures, self.settings.retry, failure.retry_after());
                progress.rest(SystemTime::now(), pause);
                let stuck = matches!(failure, Failure::TooSlow(_)) && progress.failures >= SLOW_ATTEMPTS;
                if failure.spoils_the_order() || stuck {
                    progress.order = None;
                }
            }
        }
        if let Err(error) = self.write(site, progress).await {
            tracing::warn!(site = &*site.name, %error, "the state of an order can't be kept");
        }
    }

    async fn write(&self, site: &AcmeSite, progress: &Progress) -> Result<(), Failure> {
        let (files, progress) = (site.files.clone(), progress.clone());
        on_blocking_thread(move || files.write(&progress)).await
    }

    /// The certificate that was ordered, in its file already.
    async fn order(&self, site: &AcmeSite, progress: &mut Progress) -> Result<Chain, Failure> {
        // No order, and no key, of which nothing could be kept.
        self.write(site, progress).await?;
        let key = AccountKey::open(&self.settings, &self.keys).await?;
        self.challenges.account(&key.thumbprint);
        let account = Account::open(&self.settings, &self.https, &self.keys, key).await?;
        let before = site.certificate().await;
        let key = self.site_key(site, before.as_ref()).await?;
        let orderer = Orderer {
            account: &account,
            keys: &self.keys,
            challenges: &self.challenges,
            challenge: self.settings.challenge,
            names: &site.names,
        };
        if let Some(begun) = progress.order() {
            tracing::info!(site = &*site.name, order = %begun, "an order from before is followed");
            match self.install(site, orderer.fulfil(&begun, &key).await, &key).await {
                Ok(chain) => return Ok(chain),
                // Whatever is wrong with it is not a new one's fault, unless the authority can't be reached at all.
                Err(failure) if failure.spoils_the_order() => {
                    tracing::info!(site = &*site.name, %failure, "it is given up for another");
                }
                Err(failure) => return Err(failure),
            }
        }
        let replaces = account.directory.renewal_info.as_ref().and(before.as_ref());
        let replaces = replaces.and_then(renewal::certificate_id);
        let begun = orderer.begin(replaces.as_deref()).await?;
        progress.order = Some(begun.to_string());
        self.write(site, progress).await?;
        self.install(site, orderer.fulfil(&begun, &key).await, &key).await
    }

    async fn install(
        &self,
        site: &AcmeSite,
        chain: Result<String, Failure>,
        key: &PublicKeyReply,
    ) -> Result<Chain, Failure> {
        let (chain, key, site) = (chain?, key.clone(), site.clone());
        if chain.len() > LONGEST_CHAIN {
            return Err(Failure::Malformed("its chain of certificates is longer than 64 KiB"));
        }
        on_blocking_thread(move || {
            site.files.install(&chain, |file| {
                let chain = Chain::load(file)?;
                if chain.spki().as_ref() != key.spki {
                    return Err(Failure::OtherKey);
                }
                hangs_together(&chain)?;
                let (from, until, now) = (chain.not_before(), chain.not_after(), OffsetDateTime::now_utc());
                if from > now + SKEW || until <= now {
                    return Err(Failure::NotNow { from, until });
                }
                match site.hosts.iter().find(|host| !chain.covers(host)) {
                    Some(host) => Err(Failure::OtherName(host.to_string())),
                    None => Ok(()),
                }
            })?;
            Ok(Chain::load(&site.files.certificate)?)
        })
        .await
    }

    /// The key to be certified: the newest of the site's, unless the certificate is that one's already.
    ///
    /// So a key that no certificate came for is used for the next one, and several proxies have the same.
    async fn site_key(&self, site: &AcmeSite, before: Option<&Chain>) -> Result<PublicKeyReply, Failure> {
        let (keys, label) = (Arc::clone(&self.keys), site.key_label(&self.settings)?);
        let algorithm = self.settings.key_type.algorithm();
        let certified = before.map(|chain| (chain.spki().clone(), renewal::life(chain)));
        let renew = self.settings.renew_key;
        on_blocking_thread(move || {
            let key = match keys.find(&label)? {
                Some(key) => key,
                None => keys.make(algorithm, KeyTemplate::new(label.clone(), Attributes::TLS_SERVER))?,
            };
            if key.info.algorithm != algorithm || !key.info.attributes.has(Attribute::TlsServer) {
                return Err(Failure::WrongKey(label.to_string()));
            }
            match certified {
                Some((spki, life))
                    if renew
                        && spki.as_ref() == key.spki
                        && renewal::old_enough(age(key.info.created_at.0), life) =>
                {
                    Ok(keys.rotate(key.info.id, life + KEY_MARGIN)?)
                }
                _ => Ok(key),
            }
        })
        .await
    }
}

/// How long ago that was, in milliseconds of Unix time.
fn age(created_at: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(created_at))
}

/// Each certificate is issued by the next one, and there are not too many.
pub(super) fn hangs_together(chain: &Chain) -> Result<(), Failure> {
    let certificates = chain.certificates();
    if certificates.len() > MOST_CERTIFICATES {
        return Err(Failure::Malformed("its chain has more than ten certificates"));
    }
    let broken = || Failure::Malformed("a certificate of its chain is not issued by the next one");
    for (one, next) in certificates.iter().zip(certificates.iter().skip(1)) {
        let (one, next) = (parse(one).map_err(|_| broken())?, parse(next).map_err(|_| broken())?);
        if one.issuer().as_raw() != next.subject().as_raw() {
            return Err(broken());
        }
    }
    Ok(())
}

/// When the site's certificate is renewed.
pub(super) struct Schedule {
    /// Where in the time for it; chosen anew for each certificate.
    fraction: f64,
    /// What the authority said of which certificate, and until when that holds.
    window: Option<(String, Option<Window>, SystemTime)>,
}

impl Schedule {
    pub(super) fn new() -> Self {
        Self { fraction: random_fraction(), window: None }
    }

    /// What the authority says of the certificate, or said last.
    async fn advice(&mut self, shared: &Shared, chain: &Chain) -> Option<Window> {
        let id = renewal::certificate_id(chain)?;
        let now = SystemTime::now();
        let known = self.window.take().filter(|(of, ..)| *of == id);
        if let Some((_, window, _)) = known.clone().filter(|(.., until)| now < *until) {
            self.window = known;
            return window;
        }
        let asked = async {
            let directory = Directory::fetch(&shared.https, &shared.settings.directory).await?;
            Window::ask(&shared.https, &directory, &id).await
        };
        let last = known.and_then(|(_, window, _)| window);
        let (window, holds) = match asked.await {
            Ok(Some((window, holds))) => (Some(window), holds),
            Ok(None) => (None, renewal::ASK_AGAIN),
            Err(error) => {
                tracing::debug!(%error, "no advice on renewal");
                (last, renewal::ASK_AGAIN / 6)
            }
        };
        self.window = Some((id, window, now + holds));
        window
    }
}
