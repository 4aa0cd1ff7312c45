use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::ProducesTickets;

use super::ring::{Ring, TicketKey};
use super::{PERIOD, TicketKeys};

/// Random bytes of a ticket that its key is derived with. With the nonce there are 28, so that proxies that share a key may make as
/// many tickets as they like: no two have key and nonce in common.
const SALT: usize = 16;

/// Makes and opens tickets: name of the key, salt, nonce, and what AES-256-GCM makes of the session.
pub(super) struct Ticketer {
    keys: Arc<TicketKeys>,
    context: [u8; 32],
}

impl Ticketer {
    /// Tickets that are good in this context only.
    pub(super) fn new(keys: Arc<TicketKeys>, context: [u8; 32]) -> Self {
        Self { keys, context }
    }

    fn cipher(&self, key: &TicketKey, salt: &[u8]) -> Option<LessSafeKey> {
        let derived = key.derive(&self.context, salt);
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived[..]).ok()?))
    }

    pub(super) fn seal(&self, ring: &Ring, session: &[u8]) -> Option<Vec<u8>> {
        let key = ring.current()?;
        let mut random = [0; SALT + NONCE_LEN];
        default_provider().secure_random.fill(&mut random).ok()?;
        let (salt, nonce) = random.split_at(SALT);
        let cipher = self.cipher(key, salt)?;
        let mut ticket =
            Vec::with_capacity(TicketKey::NAME + random.len() + session.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&random);
        let mut sealed = session.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        cipher.seal_in_place_append_tag(nonce, Aad::from(key.name), &mut sealed).ok()?;
        ticket.append(&mut sealed);
        Some(ticket)
    }

    pub(super) fn open(&self, ring: &Ring, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(TicketKey::NAME)?;
        let (salt, rest) = rest.split_at_checked(SALT)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = ring.find(name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut session = sealed.to_vec();
        let length =
            self.cipher(key, salt)?.open_in_place(nonce, Aad::from(key.name), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        const LIFETIME: u32 = 2 * PERIOD as u32;
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(&self.keys.ring(), plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(&self.keys.ring(), cipher)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer(…)")
    }
}
