//! Nonces of AES-GCM: never the same twice for one key, on whatever engine, however often a key was taken in.

use std::collections::HashMap;

use aws_lc_rs::rand;
use keycore_wire::{KeyId, RefusalCode};

use crate::denial::Denial;

/// SP 800-38D, section 8.3: a key encrypts no more often.
const MAX_INVOCATIONS: u64 = 1 << 32;

/// The deterministic construction of SP 800-38D, section 8.2.1: a fixed field of 64 bits, then a counter of 32.
///
/// The fixed field tells this run of this engine from all others: it is drawn at its start, and again when the counter
/// has run through. After 90,000 runs of all engines together, two have drawn the same with a probability of 2^-32. One
/// counter serves all keys of the engine, so that the same bytes under two key ids share no nonce either.
pub(crate) struct GcmNonces {
    fixed: [u8; 8],
    counter: Option<u32>,
    invocations: HashMap<KeyId, u64>,
}

impl GcmNonces {
    /// Draws nothing yet.
    pub(crate) fn new() -> Self {
        Self { fixed: [0; 8], counter: None, invocations: HashMap::new() }
    }

    /// The nonce of the next encryption under `key`.
    ///
    /// # Errors
    ///
    /// `KeyExhausted` after 2^32 encryptions by this engine.
    pub(crate) fn next(&mut self, key: KeyId) -> Result<[u8; 12], Denial> {
        let used = self.invocations.entry(key).or_default();
        if *used >= MAX_INVOCATIONS {
            return Err(Denial::new(
                RefusalCode::KeyExhausted,
                "the key has encrypted as often as AES-GCM allows; make a new one",
            ));
        }
        *used += 1;
        let counter = match self.counter.and_then(|counter| counter.checked_add(1)) {
            Some(counter) => counter,
            None => {
                rand::fill(&mut self.fixed)?;
                0
            }
        };
        self.counter = Some(counter);
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.fixed);
        nonce[8..].copy_from_slice(&counter.to_be_bytes());
        Ok(nonce)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const KEY: KeyId = KeyId([1; 16]);

    #[test]
    fn nonces_differ_between_keys_engines_and_rounds_of_the_counter() {
        let (mut one, mut other) = (GcmNonces::new(), GcmNonces::new());
        let mut seen = HashSet::new();
        for nonces in [&mut one, &mut other] {
            for key in [KEY, KeyId([2; 16])] {
                for _ in 0..1000 {
                    assert!(seen.insert(nonces.next(key).ok().unwrap()));
                }
            }
        }
        let fixed = one.fixed;
        one.counter = Some(u32::MAX - 1);
        let last = one.next(KEY).ok().unwrap();
        assert_eq!((&last[..8], &last[8..]), (&fixed[..], &[0xff; 4][..]));
        let first = one.next(KEY).ok().unwrap();
        assert_eq!(first[8..], [0; 4]);
        assert_ne!(first[..8], fixed, "a new round has a new fixed field");
    }

    #[test]
    fn a_key_is_exhausted_after_as_many_encryptions_as_the_standard_allows() {
        let mut nonces = GcmNonces::new();
        nonces.invocations.insert(KEY, MAX_INVOCATIONS - 1);
        assert!(nonces.next(KEY).is_ok());
        assert_eq!(nonces.next(KEY).unwrap_err().refusal.code, RefusalCode::KeyExhausted);
        assert!(nonces.next(KeyId([2; 16])).is_ok(), "other keys go on");
    }
}
