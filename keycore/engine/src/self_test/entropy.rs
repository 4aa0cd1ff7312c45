//! Health tests of the random generator (NIST SP 800-90B, section 4.4), over bytes drawn from it.
//!
//! aws-lc tests its noise source itself, where it has one (CPU jitter, in the FIPS build); these tests look at what comes out
//! of the generator in the end, which is what keys are made of. They catch what has happened in the field: a generator that
//! is stuck, or was never seeded and repeats itself. Its output has 8 bits of entropy per byte. The standard proposes false
//! alarms in 2^-20 to 2^-40 of all samples of a noise source; a false alarm here stops the engine for good, and a generator's
//! output is plenty, so it is 2^-64.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

use super::ENTROPY;
use super::known_answer::{ACCEPTED, KnownAnswer, REFUSED, is_broken, verdicts};

/// Bytes drawn and tested before a key is made.
pub(super) const SAMPLE: usize = 64;

/// Bytes tested at start (section 4.3, requirement 4).
const AT_START: usize = 1024;

/// Repetition count: so many equal bytes in a row, 1 + 64 bits / 8 bits.
const REPETITIONS: u32 = 9;
/// Adaptive proportion: so many bytes that equal the first one of their window.
const PROPORTION: u32 = 26;
/// Bytes in a window, for samples that are not binary.
const WINDOW: u32 = 512;

pub(super) const GENERATOR: &[KnownAnswer] = &[KnownAnswer {
    name: ENTROPY,
    source: "NIST SP 800-90B, 4.4: repetition count and adaptive proportion; a stuck and a biased source",
    expected: &[ACCEPTED, REFUSED, REFUSED],
    compute: || {
        let mut drawn = [0; AT_START];
        draw(&mut drawn)?;
        let (mut biased, mut zeros) = (drawn, drawn);
        biased.iter_mut().step_by(4).for_each(|byte| *byte = 0xa5);
        zeros[AT_START / 2..].fill(0);
        Ok(verdicts([drawn, zeros, biased].map(|bytes| EntropyHealth::default().feed(&bytes))))
    },
}];

/// The generator does not give random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unhealthy;

/// Both tests, from one byte to the next.
#[derive(Debug, Default)]
pub(super) struct EntropyHealth {
    last: Option<u8>,
    /// How often `last` came in a row.
    repetitions: u32,
    /// First byte of the window.
    first: u8,
    /// Bytes of the window that were seen, and that equal the first one.
    seen: u32,
    equal: u32,
}

impl EntropyHealth {
    /// Takes in what was drawn.
    pub(super) fn feed(&mut self, drawn: &[u8]) -> Result<(), Unhealthy> {
        drawn.iter().try_for_each(|&byte| self.take(byte))
    }

    fn take(&mut self, byte: u8) -> Result<(), Unhealthy> {
        self.repetitions = if self.last == Some(byte) { self.repetitions + 1 } else { 1 };
        self.last = Some(byte);
        if self.seen == 0 {
            (self.first, self.equal) = (byte, 0);
        }
        self.equal += u32::from(byte == self.first);
        self.seen = (self.seen + 1) % WINDOW;
        if self.repetitions >= REPETITIONS || self.equal >= PROPORTION { Err(Unhealthy) } else { Ok(()) }
    }
}

/// Fills `bytes` from the generator.
pub(super) fn draw(bytes: &mut [u8]) -> Result<(), Unspecified> {
    rand::fill(bytes)?;
    if is_broken(ENTROPY) {
        bytes.fill(0x55);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes of `source` are taken until the alarm; none if 1,000,000 are.
    fn alarm_after(source: impl FnMut(usize) -> u8) -> Option<usize> {
        let mut health = EntropyHealth::default();
        (0..1_000_000).map(source).position(|byte| health.feed(&[byte]).is_err()).map(|index| index + 1)
    }

    #[test]
    fn sources_are_told_apart() {
        let healthy: Vec<u8> = {
            let mut drawn = vec![0; 1_000_000];
            draw(&mut drawn).unwrap();
            drawn
        };
        assert_eq!(alarm_after(|at| healthy[at]), None, "the generator itself");
        assert_eq!(alarm_after(|_| 0), Some(9), "stuck");
        assert_eq!(
            alarm_after(|at| if at < 700 { healthy[at] } else { 0xff }).map(|after| after > 700),
            Some(true)
        );
        assert_eq!(alarm_after(|at| (at % 16).to_le_bytes()[0]), Some(25 * 16 + 1), "four bits in a byte");
        assert!(
            alarm_after(|at| if at % 8 == 0 { 7 } else { healthy[at] }).is_some(),
            "one byte in eight is known"
        );
    }

    #[test]
    fn eight_in_a_row_are_chance_and_nine_are_not() {
        let run = |count: usize| EntropyHealth::default().feed(&[&[1, 2, 3][..], &vec![9; count]].concat());
        assert_eq!((run(8), run(9)), (Ok(()), Err(Unhealthy)));
    }

    #[test]
    fn a_window_does_not_end_with_a_draw() {
        let mut health = EntropyHealth::default();
        let alternating = [5, 6, 7, 8];
        let alarm = (0..200).position(|_| health.feed(&alternating).is_err());
        assert_eq!(alarm, Some(25), "the 26th draw of four");
    }
}
