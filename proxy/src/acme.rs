//! Certificates by themselves (RFC 8555): ordered, renewed, and put where a reload finds them. Keys stay in the engines.
//!
//! Nothing of it is on the way of a connection, but for the answers to an authority's challenges. Orders are followed on the main
//! thread, which waits for signals otherwise; engines and files, which block, on threads of their own.

mod account;
mod challenges;
mod failure;
mod https;
mod jws;
mod keys;
mod order;
mod renewal;
mod site;
mod state;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};

pub(crate) use challenges::{ACME_TLS, Challenges, HTTP_01_PATH};
pub use keys::CertificateKeys;
pub(crate) use site::AcmeSite;

use account::Directory;
use failure::Failure;
use https::Https;
use site::Shared;

use crate::config::{AcmeSettings, Config};
use crate::generation::Generation;
use crate::keys::KeySource;
use crate::metrics::AcmeMetrics;

/// Orders at once, of all sites: an authority counts what comes from one account.
const ORDERS: usize = 4;

/// What is to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcmePlan {
    settings: AcmeSettings,
    sites: Vec<AcmeSite>,
}

impl AcmePlan {
    /// `None` if no certificate comes by ACME.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let sites: Vec<_> = config
            .sites
            .iter()
            .filter(|site| site.cert.is_acme())
            .filter_map(|site| AcmeSite::new(&site.host, &config.acme.certificate_file(site)))
            .collect();
        (!sites.is_empty()).then(|| Self { settings: config.acme.clone(), sites })
    }
}

/// Sees to the certificates of each generation's plan. Never ends.
pub(crate) async fn follow(
    mut generations: watch::Receiver<Arc<Generation>>,
    keys: Arc<dyn KeySource>,
    challenges: Arc<Challenges>,
    metrics: Arc<AcmeMetrics>,
) -> Infallible {
    let (mut tasks, mut introduction) = (JoinSet::new(), JoinSet::new());
    let mut running = HashMap::<Box<str>, (AcmeSite, AbortHandle)>::new();
    let mut shared: Option<Arc<Shared>> = None;
    loop {
        let plan = generations.borrow_and_update().acme.clone();
        let settings = plan.as_ref().map(|plan| &plan.settings);
        if shared.as_ref().map(|shared| &shared.settings) != settings {
            running.drain().for_each(|(_, (_, task))| task.abort());
            shared = settings.and_then(|settings| start(settings, &*keys, &challenges, &metrics));
            introduction.abort_all();
            if let Some(shared) = &shared {
                introduction.spawn(Arc::clone(shared).introduce());
            }
        }
        let sites = plan.as_ref().map(|plan| &plan.sites[..]).unwrap_or_default();
        running.retain(|_, (site, task)| {
            let stays = sites.contains(site);
            if !stays {
                task.abort();
            }
            stays
        });
        metrics.keep(|site| running.contains_key(site));
        if let Some(shared) = &shared {
            for site in sites {
                if !running.contains_key(&site.name) {
                    let task = tasks.spawn(Arc::clone(shared).follow(site.clone()));
                    running.insert(site.name.clone(), (site.clone(), task));
                }
            }
        }
        loop {
            tokio::select! {
                changed = generations.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return std::future::pending().await,
                },
                Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                    tracing::error!("a certificate's task panicked, see above: it is not renewed until a restart");
                },
            }
        }
    }
}

fn start(
    settings: &AcmeSettings,
    keys: &dyn KeySource,
    challenges: &Arc<Challenges>,
    metrics: &Arc<AcmeMetrics>,
) -> Option<Arc<Shared>> {
    let Some(keys) = keys.certificate_keys() else {
        tracing::error!("no certificates by ACME: keys can't be made where they are");
        return None;
    };
    let https = match Https::new(settings.ca.as_deref(), &settings.directory) {
        Ok(https) => Arc::new(https),
        Err(error) => {
            tracing::error!(%error, "no certificates by ACME");
            return None;
        }
    };
    Some(Arc::new(Shared {
        settings: settings.clone(),
        https,
        keys,
        challenges: Arc::clone(challenges),
        metrics: Arc::clone(metrics),
        room: Semaphore::new(ORDERS),
        patience: site::PATIENCE,
    }))
}

/// Whether the authority's directory can be had; else why not, in one line. Blocks.
pub(crate) fn probe(settings: &AcmeSettings) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fetched = runtime.map_err(|error| error.to_string())?.block_on(async {
        let https = Https::new(settings.ca.as_deref(), &settings.directory)?;
        Directory::fetch(&https, &settings.directory).await
    });
    fetched.map(drop).map_err(|error| error.to_string())
}

/// Engines and files block.
async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.unwrap_or(Err(Failure::Interrupted))
}

/// From 0 up to 1, so that those who fail together don't come again together.
fn random_fraction() -> f64 {
    let mut random = [0; 4];
    // Without random numbers there is no TLS either.
    let _ = aws_lc_rs::rand::fill(&mut random);
    f64::from(u32::from_le_bytes(random)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
