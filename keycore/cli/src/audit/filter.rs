//! Which records are shown.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use keycore_audit::{Outcome, Record};
use keycore_wire::UserName;
use time::format_description::well_known::Rfc3339;
use time::macros::{format_description, time};
use time::{Date, OffsetDateTime};

#[derive(Debug, Default, Args)]
pub(crate) struct FilterArguments {
    /// From this time on: 2026-11-25T09:30:00Z, 2026-11-25 (UTC), or how long ago: 15m, 12h, 30d
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only this operation, such as TlsSign or KeyDelete; may be given several times
    #[arg(long = "operation", value_name = "NAME")]
    operations: Vec<String>,
    /// Only the log of this engine; may be given several times
    #[arg(long = "replica", value_name = "N")]
    replicas: Vec<u16>,
    /// Only what was refused
    #[arg(long)]
    refused: bool,
}

/// Which records are shown: those that fit all of it.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    arguments: &'a FilterArguments,
    user: Option<&'a UserName>,
}

impl<'a> Filter<'a> {
    pub(super) fn new(arguments: &'a FilterArguments, user: Option<&'a UserName>) -> Self {
        Self { arguments, user }
    }

    /// The replicas whose logs are read; all if empty.
    pub(super) fn replicas(&self) -> &[u16] {
        &self.arguments.replicas
    }

    pub(super) fn passes(&self, record: &Record<'_>) -> bool {
        let FilterArguments { since, until, operations, replicas, refused } = self.arguments;
        let entry = &record.entry;
        since.is_none_or(|since| entry.time_micros >= since.micros)
            && until.is_none_or(|until| entry.time_micros < until.micros)
            && (operations.is_empty()
                || operations.iter().any(|name| name.eq_ignore_ascii_case(entry.operation)))
            && (replicas.is_empty() || replicas.contains(&record.replica))
            && (!refused || matches!(entry.outcome, Outcome::Refused(_)))
            && self.user.is_none_or(|user| entry.user.is_some_and(|by| by.name == user.as_str()))
    }
}

/// A time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    micros: u64,
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
            let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
            Some(date.with_time(time!(0:00)).assume_utc())
        });
        let micros = match at {
            Some(at) => u64::try_from(at.unix_timestamp_nanos() / 1000).ok(),
            None => ago(text),
        };
        micros.map(|micros| Self { micros }).ok_or(
            "a time since 1970 as 2026-11-25T09:30:00Z or 2026-11-25, or how long ago: 90s, 15m, 12h, 30d",
        )
    }
}

/// The time so long ago.
fn ago(text: &str) -> Option<u64> {
    let seconds = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let ago = text[..text.len() - 1].parse::<u32>().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros();
    u64::try_from(now).ok()?.checked_sub(u64::from(ago) * seconds * 1_000_000)
}

#[cfg(test)]
mod tests {
    use keycore_audit::{Entry, Head, Subject, User};
    use keycore_wire::RefusalCode;

    use super::*;

    #[test]
    fn times_are_read_in_three_forms() {
        let micros = |text: &str| Moment::from_str(text).map(|moment| moment.micros);
        assert_eq!(micros("2026-11-18T11:06:40.000001Z"), Ok(1_795_000_000_000_001));
        assert_eq!(micros("2026-11-18T12:06:40+01:00"), Ok(1_795_000_000_000_000));
        assert_eq!(micros("2026-11-18"), Ok(1_794_960_000_000_000));
        assert!(micros("2d").unwrap() < micros("1h").unwrap());
        for text in ["", "d", "yesterday", "1969-12-31", "-1d", "9é", "2026-11-31"] {
            assert!(micros(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_record_passes_if_all_that_is_asked_fits() {
        let arguments = FilterArguments {
            since: Some(Moment { micros: 10 }),
            until: Some(Moment { micros: 20 }),
            operations: vec!["login".into(), "KeyDelete".into()],
            replicas: vec![1],
            refused: true,
        };
        let web: UserName = "web".parse().unwrap();
        let filter = Filter::new(&arguments, Some(&web));
        let entry = Entry {
            user: Some(User { id: None, name: "web" }),
            outcome: Outcome::Refused(RefusalCode::BadCredentials),
            ..Entry::by_engine(10, "Login", Subject::None, "")
        };
        let passes = |replica, entry: Entry<'_>| {
            filter.passes(&Record { replica, sequence: 1, boot: 1, head: Head([0; 32]), entry })
        };
        assert!(passes(1, entry.clone()));
        assert!(!passes(0, entry.clone()));
        for other in [
            Entry { time_micros: 9, ..entry.clone() },
            Entry { time_micros: 20, ..entry.clone() },
            Entry { operation: "Logout", ..entry.clone() },
            Entry { outcome: Outcome::Done, ..entry.clone() },
            Entry { user: None, ..entry.clone() },
            Entry { user: Some(User { id: None, name: "we" }), ..entry },
        ] {
            assert!(!passes(1, other.clone()), "{other:?}");
        }
    }
}
