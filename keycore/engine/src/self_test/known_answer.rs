//! One known-answer test.

use aws_lc_rs::error::Unspecified;

/// Computes something whose result is known.
pub(crate) struct KnownAnswer {
    /// What is tested, for people.
    pub(crate) name: &'static str,
    /// Where the answer is from.
    pub(crate) source: &'static str,
    pub(super) expected: &'static [u8],
    pub(super) compute: fn() -> Result<Vec<u8>, Unspecified>,
}

impl KnownAnswer {
    /// Whether the answer is the known one.
    pub(crate) fn passes(&self) -> bool {
        let computed = (self.compute)();
        !is_broken(self.name) && computed.is_ok_and(|computed| computed == self.expected)
    }
}

/// What a verification should say.
pub(super) const ACCEPTED: u8 = 1;
pub(super) const REFUSED: u8 = 0;

/// What verifications said, as an answer.
pub(super) fn verdicts<E, const N: usize>(outcomes: [Result<(), E>; N]) -> Vec<u8> {
    outcomes.into_iter().map(|outcome| if outcome.is_ok() { ACCEPTED } else { REFUSED }).collect()
}

/// Bytes from hexadecimal digits; a wrong one does not compile.
pub(super) const fn hex<const N: usize>(digits: &str) -> [u8; N] {
    const fn value(digit: u8) -> u8 {
        match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!("not a hexadecimal digit"),
        }
    }
    let digits = digits.as_bytes();
    assert!(digits.len() == 2 * N, "not the right number of digits");
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = value(digits[2 * at]) << 4 | value(digits[2 * at + 1]);
        at += 1;
    }
    bytes
}

/// Whether a unit test wants this self-test to fail. What ships knows no such thing.
#[cfg(not(test))]
pub(crate) const fn is_broken(_name: &str) -> bool {
    false
}

#[cfg(test)]
pub(crate) use breaking::{break_test, is_broken};

#[cfg(test)]
mod breaking {
    use core::cell::Cell;

    thread_local! {
        static BROKEN: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Lets the self-test of this name fail on this thread from now on.
    pub(crate) fn break_test(name: Option<&'static str>) {
        BROKEN.set(name);
    }

    pub(crate) fn is_broken(name: &str) -> bool {
        BROKEN.get() == Some(name)
    }
}
