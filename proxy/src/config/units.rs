//! Durations and sizes as people write them.

use schemars::JsonSchema;

/// How a duration looks in the JSON Schema.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[expect(dead_code, reason = "a schema, never a value")]
pub(super) struct Duration(#[schemars(regex(pattern = r"^[0-9]+ *(ms|s|m|h)$"))] String);

/// How a size looks in the JSON Schema.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[expect(dead_code, reason = "a schema, never a value")]
pub(super) struct Size(#[schemars(regex(pattern = r"^[0-9]+ *(B|KiB|MiB)$"))] String);

/// Durations: a whole number and `ms`, `s`, `m` or `h`.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "{text:?} is not a duration: write a whole number and its unit, ms, s, m or h, as in \"10s\""
            ))
        })
    }

    /// For the defaults in the JSON Schema.
    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = duration.as_millis();
        let (number, unit) = if millis.is_multiple_of(1000) { (millis / 1000, "s") } else { (millis, "ms") };
        serializer.collect_str(&format_args!("{number}{unit}"))
    }

    /// Longest duration that makes sense here; keeps sums with the clock from overflowing.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

    pub(super) fn parse(text: &str) -> Option<Duration> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let millis = match unit.trim_start() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let duration = Duration::from_millis(number.checked_mul(millis)?);
        (duration <= LONGEST).then_some(duration)
    }
}

/// Sizes: a whole number and `B`, `KiB` or `MiB`.
pub(super) mod size {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "{text:?} is not a size: write a whole number and its unit, B, KiB or MiB, as in \"64KiB\""
            ))
        })
    }

    /// For the defaults in the JSON Schema.
    pub(in crate::config) fn serialize<S: Serializer>(
        size: &usize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let (number, unit) = if size.is_multiple_of(1 << 20) {
            (size >> 20, "MiB")
        } else if size.is_multiple_of(1 << 10) {
            (size >> 10, "KiB")
        } else {
            (*size, "B")
        };
        serializer.collect_str(&format_args!("{number}{unit}"))
    }

    pub(super) fn parse(text: &str) -> Option<usize> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let number: usize = number.parse().ok()?;
        let bytes = match unit.trim_start() {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return None,
        };
        number.checked_mul(bytes)
    }
}

/// Sizes that may be absent.
pub(super) mod optional_size {
    use serde::{Deserializer, Serializer};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<usize>, D::Error> {
        super::size::deserialize(deserializer).map(Some)
    }

    /// For the defaults in the JSON Schema.
    pub(in crate::config) fn serialize<S: Serializer>(
        size: &Option<usize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => super::size::serialize(size, serializer),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, size};

    #[test]
    fn numbers_with_units() {
        assert_eq!(duration::parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration::parse("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration::parse("2 m"), Some(Duration::from_secs(120)));
        assert_eq!(duration::parse("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(size::parse("64KiB"), Some(65536));
        assert_eq!(size::parse("1MiB"), Some(1 << 20));
        assert_eq!(size::parse("512B"), Some(512));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5s", "10 seconds", "18446744073709551615h", "400000000s", "10S"]
        {
            assert_eq!(duration::parse(text), None, "{text}");
        }
        for text in ["", "10", "KiB", "-1B", "1KB", "18446744073709551615MiB"] {
            assert_eq!(size::parse(text), None, "{text}");
        }
    }
}
