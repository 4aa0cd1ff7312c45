//! Durations as people write and read them.

use std::time::Duration;

/// Reads `250ms`, `10s`, `1.5s`, `2m`.
///
/// # Errors
///
/// A sentence for the command line, if it is anything else.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(InvalidDuration)?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(InvalidDuration),
    };
    let number: f64 = number.parse().map_err(|_| InvalidDuration)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| InvalidDuration)
}

/// The text is no duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a number and a unit, like 250ms, 10s or 2m")]
pub struct InvalidDuration;

/// A duration in milliseconds, for reports: three significant digits or whole microseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// `950 µs`, `4.21 ms`, `310 ms`, `1.52 s`.
pub fn human(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.2} ms", duration.as_secs_f64() * 1e3),
        10_000..100_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        100_000..1_000_000 => format!("{:.0} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}

/// `64,210`
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "10", "s", "-1s", "1.2.3s", "10 s", "10d", "99999999999999999999h"] {
            assert_eq!(parse_duration(wrong), Err(InvalidDuration), "{wrong}");
        }
    }

    #[test]
    fn writes_what_people_read() {
        assert_eq!(human(Duration::from_micros(950)), "950 µs");
        assert_eq!(human(Duration::from_micros(4_214)), "4.21 ms");
        assert_eq!(human(Duration::from_millis(310)), "310 ms");
        assert_eq!(human(Duration::from_millis(1_520)), "1.52 s");
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(640), "640");
        assert_eq!(thousands(1_064_210), "1,064,210");
    }
}
