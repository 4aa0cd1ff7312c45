use std::sync::Arc;

use aws_lc_rs::hmac;
use rustls::crypto::aws_lc_rs::default_provider;
use zeroize::Zeroizing;

use super::TicketSecret;

/// The keys that tickets may have been made with, and the one that they are made with now.
#[derive(Clone, Default)]
pub(super) struct Ring {
    keys: Vec<Arc<TicketKey>>,
    current: Option<Arc<TicketKey>>,
}

/// Where a key is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Nobody else has it.
    Own,
    /// Other proxies have it, too.
    Engines,
}

/// The key of one period, from which those of single tickets are derived.
pub(super) struct TicketKey {
    period: u64,
    origin: Origin,
    pub(super) name: [u8; Self::NAME],
    /// HMAC-SHA256; wiped when dropped.
    secret: hmac::Key,
}

impl TicketKey {
    /// Length of a name, in bytes.
    pub(super) const NAME: usize = 16;

    fn new(period: u64, origin: Origin, secret: &TicketSecret) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret[..]);
        let mut name = [0; Self::NAME];
        name.copy_from_slice(&hmac::sign(&secret, b"name").as_ref()[..Self::NAME]);
        Self { period, origin, name, secret }
    }

    /// The AES-256 key of one ticket.
    pub(super) fn derive(&self, context: &[u8; 32], salt: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut hmac = hmac::Context::with_key(&self.secret);
        hmac.update(b"ticket");
        hmac.update(context);
        hmac.update(salt);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(hmac.sign().as_ref());
        key
    }
}

impl Ring {
    /// Whether the key of this period is there.
    pub(super) fn has(&self, period: u64, origin: Origin) -> bool {
        self.keys.iter().any(|key| key.period == period && key.origin == origin)
    }

    /// Takes a key of the engines.
    pub(super) fn insert(&mut self, period: u64, secret: &TicketSecret) {
        if !self.has(period, Origin::Engines) {
            self.keys.push(Arc::new(TicketKey::new(period, Origin::Engines, secret)));
        }
    }

    /// Makes a random key for this period if there is none, and takes it: no newer one of the engines is to be had.
    pub(super) fn make_own(&mut self, now: u64) -> Result<(), rustls::Error> {
        if !self.has(now, Origin::Own) {
            let mut secret = TicketSecret::default();
            default_provider().secure_random.fill(&mut secret[..])?;
            self.keys.push(Arc::new(TicketKey::new(now, Origin::Own, &secret)));
        }
        self.advance(now);
        Ok(())
    }

    /// Forgets the keys of the engines.
    pub(super) fn drop_shared(&mut self) {
        self.keys.retain(|key| key.origin == Origin::Own);
    }

    /// Takes the newest key for new tickets, a shared one rather than an own one of the same period, and drops those whose
    /// tickets are too old.
    pub(super) fn advance(&mut self, now: u64) {
        let newest =
            self.keys.iter().filter(|key| key.period <= now).max_by_key(|key| (key.period, key.origin));
        self.current = newest.cloned();
        let current = self.current.as_ref().map_or(now, |current| current.period);
        self.keys.retain(|key| key.period.saturating_add(1) >= now || key.period == current);
    }

    /// The key of new tickets.
    pub(super) fn current(&self) -> Option<&TicketKey> {
        self.current.as_deref()
    }

    /// The key of a ticket.
    pub(super) fn find(&self, name: &[u8]) -> Option<&TicketKey> {
        self.keys.iter().find(|key| key.name == name).map(|key| &**key)
    }
}
