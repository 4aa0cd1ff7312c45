use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// So many in a time: `10/s`, `600/m`, `1000/h`. As many may come at once after a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct Rate {
    count: u32,
    per: Duration,
}

/// Text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: write a number from 1 to 1000000 and a time, /s, /m or /h, as in \"10/s\"")]
pub struct InvalidRate(String);

impl Rate {
    /// So many, more than none, in a second.
    pub(crate) const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }

    /// How much time one takes of it.
    pub(crate) fn period(self) -> Duration {
        self.per / self.count
    }

    /// The time in which all may come at once.
    pub(crate) fn burst(self) -> Duration {
        self.period() * self.count
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let parse = || {
            let (count, unit) = text.split_once('/')?;
            let seconds = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            let count = count.bytes().all(|byte| byte.is_ascii_digit()).then(|| count.parse().ok())??;
            (1..=1_000_000).contains(&count).then_some(Self { count, per: Duration::from_secs(seconds) })
        };
        parse().ok_or_else(|| InvalidRate(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_and_times() {
        let rate: Rate = "600/m".parse().unwrap();
        assert_eq!((rate.period(), rate.burst()), (Duration::from_millis(100), Duration::from_secs(60)));
        for bad in
            ["", "10", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "10/day", "10/ s", "1000001/s", "9999999999/s"]
        {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
