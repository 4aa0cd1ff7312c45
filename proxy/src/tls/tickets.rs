//! Keys of session tickets (RFC 8446, section 4.6.1; RFC 5077).
//!
//! A ticket is good on all workers, on all proxies of the same crypto user, and after a restart: its key comes from the
//! engines. Time is cut into periods; each has a key of its own there, which is deleted when no ticket needs it any more, so that who takes
//! a proxy over later can't open what was recorded before.

mod ring;
mod ticketer;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::server::ProducesTickets;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::generation::Generation;
use crate::keys::{KeySource, TicketSecret, TicketSecretError};
use crate::throttle::Throttle;
use crate::tls::TlsPolicy;
use ring::{Origin, Ring};
use ticketer::Ticketer;

/// How long tickets are made with the same key, in seconds; they are good for as long again.
pub(crate) const PERIOD: u64 = 6 * 60 * 60;

/// How often to ask again for a key that nobody gave.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How often to look at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(60);

/// Periods before the last whose keys are looked for, to delete what no proxy was there to delete: ten days.
const LEFTOVERS: u64 = 40;

/// Whose keys tickets are made with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TicketKeySource {
    /// Keys of the engines, shared by all proxies of the same user.
    #[default]
    Engines,
    /// Random ones of this process.
    Process,
}

/// The keys of this process's tickets, over all reloads.
pub(crate) struct TicketKeys {
    /// Read at each handshake, written four times a day. No reader ever waits for more than a pointer to be copied.
    ring: RwLock<Arc<Ring>>,
    complaints: Throttle,
}

impl TicketKeys {
    /// With a random key, until there are others.
    pub(crate) fn new() -> Result<Arc<Self>, rustls::Error> {
        let mut ring = Ring::default();
        ring.make_own(period_now())?;
        Ok(Arc::new(Self {
            ring: RwLock::new(Arc::new(ring)),
            complaints: Throttle::bursts(1, Duration::from_secs(600)),
        }))
    }

    /// Tickets of sites with this policy, which are good under no other.
    pub(crate) fn ticketer(self: &Arc<Self>, policy: &TlsPolicy) -> Arc<dyn ProducesTickets> {
        Arc::new(Ticketer::new(Arc::clone(self), policy.ticket_context()))
    }

    /// Changes keys as time goes on, for ever. On one worker, whose connections to the engines it uses.
    pub(crate) async fn follow(
        self: Arc<Self>,
        generation: watch::Receiver<Arc<Generation>>,
        keys: Arc<dyn KeySource>,
    ) {
        let mut cleaned = 0;
        loop {
            let (now, source) = (period_now(), generation.borrow().ticket_keys);
            let complete = match source {
                TicketKeySource::Engines => self.fetch(&*keys, now).await,
                TicketKeySource::Process => {
                    self.update(|ring| {
                        // Whoever else has those of the engines makes no ticket for this process any more.
                        ring.drop_shared();
                        ring.make_own(now)
                    });
                    true
                }
            };
            if complete && source == TicketKeySource::Engines && cleaned < now {
                let first =
                    if cleaned == 0 { now.saturating_sub(LEFTOVERS) } else { cleaned.saturating_sub(2) };
                for period in first..now.saturating_sub(1) {
                    // Another proxy may have been quicker, or will be.
                    let _ = keys.forget_ticket_secret(period).await;
                }
                cleaned = now;
            }
            sleep(if complete { LOOK.min(until_next_period()) } else { ASK_AGAIN }).await;
        }
    }

    /// Has the keys of the last, this and the next period, as far as they can be had. Whether to leave it at that for now.
    async fn fetch(&self, keys: &dyn KeySource, now: u64) -> bool {
        for (period, make) in [(now, true), (now.saturating_sub(1), false), (now + 1, true)] {
            if self.ring().has(period, Origin::Engines) {
                continue;
            }
            match keys.ticket_secret(period, make).await {
                Ok(Some(secret)) => self.update(|ring| {
                    ring.insert(period, &secret);
                    Ok(())
                }),
                Ok(None) => {}
                Err(TicketSecretError::NotOffered) => {
                    self.update(|ring| ring.make_own(now));
                    return true;
                }
                Err(TicketSecretError::Refused(reason)) => {
                    if let Some(held_back) = self.complaints.pass() {
                        tracing::warn!(
                            reason,
                            held_back,
                            "no ticket keys of the engines: sessions resume on this process only, and not after a restart"
                        );
                    }
                    self.update(|ring| ring.make_own(now));
                    return true;
                }
                // What is at hand goes on.
                Err(TicketSecretError::Unreachable(reason)) => {
                    tracing::debug!(reason, period, "no ticket key yet");
                    self.update(|ring| {
                        ring.advance(now);
                        Ok(())
                    });
                    return false;
                }
            }
        }
        self.update(|ring| {
            ring.advance(now);
            Ok(())
        });
        true
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn update(&self, change: impl FnOnce(&mut Ring) -> Result<(), rustls::Error>) {
        let mut ring = Ring::clone(&self.ring());
        match change(&mut ring) {
            Ok(()) => *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring),
            // The system gives no random bytes: the next look tries again.
            Err(error) => tracing::error!(%error, "no new ticket key"),
        }
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(…)")
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn period_now() -> u64 {
    seconds_now() / PERIOD
}

fn until_next_period() -> Duration {
    Duration::from_secs(PERIOD - seconds_now() % PERIOD)
}

#[cfg(test)]
mod tests;
