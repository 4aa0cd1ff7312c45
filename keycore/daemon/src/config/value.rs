//! Values with bounds, read so that the error points at their line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use tracing_subscriber::EnvFilter;

/// A whole number from `MIN` to `MAX`.
pub(super) fn between<'de, const MIN: u64, const MAX: u64, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Bounded,
{
    let value = i64::deserialize(deserializer)?;
    u64::try_from(value).ok().filter(|value| (MIN..=MAX).contains(value)).and_then(T::from_u64).ok_or_else(
        || D::Error::custom(format_args!("expected a whole number from {MIN} to {MAX}, got {value}")),
    )
}

/// A type that bounded numbers of the configuration are kept in.
pub(super) trait Bounded: Sized {
    /// `None` if the type can't hold it.
    fn from_u64(value: u64) -> Option<Self>;
}

impl Bounded for u64 {
    fn from_u64(value: u64) -> Option<Self> {
        Some(value)
    }
}

impl Bounded for u16 {
    fn from_u64(value: u64) -> Option<Self> {
        value.try_into().ok()
    }
}

impl Bounded for std::num::NonZeroUsize {
    fn from_u64(value: u64) -> Option<Self> {
        usize::try_from(value).ok().and_then(Self::new)
    }
}

/// A path that is not empty and has no zero byte.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Err(D::Error::custom("expected a path, got an empty text"));
    }
    if text.contains('\0') {
        return Err(D::Error::custom("expected a path, got a text with a zero byte"));
    }
    Ok(text.into())
}

/// The same, for a key without a default.
pub(super) fn some_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

/// A duration such as `"12h"`, from `MIN` to `MAX` seconds.
pub(super) fn duration_between<'de, const MIN: u64, const MAX: u64, D>(
    deserializer: D,
) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"30s\", \"15m\", \"12h\" or \"7d\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text)
                .ok_or_else(|| E::custom("expected a duration such as \"30s\", \"15m\", \"12h\" or \"7d\""))
        }
    }
    let duration = deserializer.deserialize_str(Text)?;
    if !(MIN..=MAX).contains(&duration.as_secs()) {
        return Err(D::Error::custom(format_args!("expected a duration from {MIN}s to {MAX}s")));
    }
    Ok(duration)
}

/// Whole seconds, minutes, hours or days.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "s") => (number, 1),
        (number, "m") => (number, 60),
        (number, "h") => (number, 3600),
        (number, "d") => (number, 86_400),
        _ => return None,
    };
    // `parse` would take a plus sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// A filter that the log understands.
pub(super) fn log_filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match EnvFilter::builder().parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(D::Error::custom(format_args!("not a log filter: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        for text in ["", "s", "1", "1w", "-1s", "+1s", "1 s", "1h30m", "99999999999999999d", "é"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
