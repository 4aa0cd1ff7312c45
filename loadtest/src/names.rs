//! The names that handshakes ask for: one, or numbered ones in turn.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::ServerName;

use crate::target::TargetError;

/// Where the number stands.
const PLACE: &str = "{}";

/// Numbers of names, `FROM..TO`, exclusive; there is at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Numbers(Range<u64>);

impl FromStr for Numbers {
    type Err = InvalidNumbers;

    fn from_str(text: &str) -> Result<Self, InvalidNumbers> {
        let (from, to) = text.split_once("..").ok_or(InvalidNumbers)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| InvalidNumbers);
        let numbers = number(from)?..number(to)?;
        if numbers.is_empty() { Err(InvalidNumbers) } else { Ok(Self(numbers)) }
    }
}

/// No range of numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write two numbers like 0..1000, the second greater")]
pub struct InvalidNumbers;

/// What the next handshake asks for. Clones share their turn.
#[derive(Clone, Debug)]
pub(crate) enum ServerNames {
    One(ServerName<'static>),
    Numbered(Arc<Numbered>),
}

/// Each number comes once before any comes a second time, neighbours far apart.
#[derive(Debug)]
pub(crate) struct Numbered {
    before: String,
    after: String,
    numbers: Range<u64>,
    stride: u64,
    /// The name of the greatest number, which is the longest.
    longest: ServerName<'static>,
    turn: AtomicU64,
}

impl ServerNames {
    /// The one name, or with `numbers` those that `name` gives with each in the place of `{}`; the first `skip` are passed over.
    ///
    /// # Errors
    ///
    /// [`TargetError::ServerName`], [`TargetError::Pattern`].
    pub(crate) fn new(name: &str, numbers: Option<&Numbers>, skip: u64) -> Result<Self, TargetError> {
        let valid =
            |name: String| ServerName::try_from(name.clone()).map_err(|_| TargetError::ServerName(name));
        let Some(Numbers(numbers)) = numbers else { return valid(name.to_owned()).map(Self::One) };
        let (before, after) = match name.split_once(PLACE) {
            Some((before, after)) if !after.contains(PLACE) => (before.to_owned(), after.to_owned()),
            _ => return Err(TargetError::Pattern(name.to_owned())),
        };
        let longest = valid(format!("{before}{}{after}", numbers.end - 1))?;
        let (numbers, stride) = (numbers.clone(), stride(numbers.end - numbers.start));
        let turn = AtomicU64::new(skip);
        Ok(Self::Numbered(Arc::new(Numbered { before, after, numbers, stride, longest, turn })))
    }

    /// The name of the next handshake.
    pub(crate) fn next(&self) -> ServerName<'static> {
        match self {
            Self::One(name) => name.clone(),
            Self::Numbered(names) => names.next(),
        }
    }
}

impl Numbered {
    fn next(&self) -> ServerName<'static> {
        let Self { before, after, numbers, stride, longest, turn } = self;
        let (turn, all) = (turn.fetch_add(1, Ordering::Relaxed), numbers.end - numbers.start);
        let offset = u128::from(turn) * u128::from(*stride) % u128::from(all);
        // Less than `all`.
        let number = numbers.start + u64::try_from(offset).unwrap_or_default();
        // Digits don't make a name invalid that is valid with more of them.
        ServerName::try_from(format!("{before}{number}{after}")).unwrap_or_else(|_| longest.clone())
    }
}

/// A number that has no divisor in common with `all`: near the golden section, so that neighbours in time are none in number.
fn stride(all: u64) -> u64 {
    let section = u128::from(all) * 618 / 1000;
    let section = u64::try_from(section).unwrap_or_default().max(1);
    (section..).find(|stride| greatest_common_divisor(*stride, all) == 1).unwrap_or(1)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn names(pattern: &str, numbers: &str, skip: u64) -> Result<ServerNames, TargetError> {
        ServerNames::new(pattern, Some(&numbers.parse().unwrap()), skip)
    }

    #[test]
    fn each_number_comes_once_before_any_comes_again() {
        for (from, all) in [(0, 1), (7, 2), (0, 10), (3, 997), (0, 1000)] {
            let names = names("site-{}.example", &format!("{from}..{}", from + all), 0).unwrap();
            let first: Vec<_> = (0..all).map(|_| names.next()).collect();
            let wanted: HashSet<_> = (from..from + all)
                .map(|n| ServerName::try_from(format!("site-{n}.example")).unwrap())
                .collect();
            assert_eq!(first.iter().cloned().collect::<HashSet<_>>(), wanted, "{all}");
            assert_eq!(names.next(), first[0]);
        }
    }

    #[test]
    fn names_that_are_passed_over_are_those_of_the_run_before() {
        let (all, rest) =
            (names("{}.example", "0..100", 0).unwrap(), names("{}.example", "0..100", 60).unwrap());
        let all: Vec<_> = (0..100).map(|_| all.clone().next()).collect();
        let rest: Vec<_> = (0..40).map(|_| rest.next()).collect();
        assert_eq!(all[60..], rest[..]);
    }

    #[test]
    fn a_pattern_has_one_place_and_gives_names() {
        for bad in ["site.example", "{}.{}.example"] {
            assert!(matches!(names(bad, "0..9", 0), Err(TargetError::Pattern(name)) if name == bad));
        }
        assert!(matches!(names("a b{}", "0..9", 0), Err(TargetError::ServerName(_))));
        for bad in ["", "5", "5..5", "6..5", "..5", "a..b", "-1..5"] {
            assert_eq!(bad.parse::<Numbers>(), Err(InvalidNumbers), "{bad}");
        }
    }
}
