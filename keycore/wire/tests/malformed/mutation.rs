//! Changes at random. Also for the tests of malformed backups and audit logs.

/// SplitMix64: the same seed, the same changes.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Changes, cuts, repeats or lengthens bytes at one to four places.
pub(crate) fn mutate(random: &mut Random, body: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(body.len().max(1));
        match random.below(6) {
            0 => body.truncate(at),
            1 => body.insert(at.min(body.len()), random.byte()),
            2 => body.extend_from_within(at.min(body.len())..),
            // A varint that claims a great length.
            3 if at + 6 < body.len() => body[at..at + 5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            _ if at < body.len() => body[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}
