//! When a certificate is renewed, and when it is tried again.

use std::time::Duration;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::ParsedExtension;

use super::account::Directory;
use super::failure::Failure;
use super::https::Https;
use super::random_fraction;
use crate::chain::{self, Chain};
use crate::config::AcmeUrl;

/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// Longest life that is believed of a certificate: one to the year 9999 is renewed, too, and its key let go of.
const LONGEST_LIFE: Duration = Duration::from_secs(400 * 24 * 3600);

/// How often the authority is asked when a certificate should be renewed, if it does not say (RFC 9773, section 4.3).
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// And no more often than that, whatever it says.
const LEAST_ASK: Duration = Duration::from_secs(60);

/// When a certificate should be renewed, as its authority says (RFC 9773).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// In Unix time: with offsets, times near the year 9999 can't be computed with.
    start: i64,
    end: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RenewalInfo {
    suggested_window: SuggestedWindow,
}

#[derive(Debug, Deserialize)]
struct SuggestedWindow {
    start: String,
    end: String,
}

impl Window {
    /// Asks the authority of a certificate; and how long its answer holds. `None` if it doesn't offer that.
    pub(super) async fn ask(
        https: &Https,
        directory: &Directory,
        certificate: &str,
    ) -> Result<Option<(Self, Duration)>, Failure> {
        let Some(base) = &directory.renewal_info else { return Ok(None) };
        let url: AcmeUrl = format!("{}/{certificate}", base.to_string().trim_end_matches('/'))
            .parse()
            .map_err(|_| Failure::Malformed("renewalInfo"))?;
        let reply = https.request(http::Method::GET, &url, None).await?.success()?;
        let window = Self::of(&reply.json::<RenewalInfo>()?)?;
        Ok(Some((window, reply.retry_after().unwrap_or(ASK_AGAIN).clamp(LEAST_ASK, ASK_AGAIN * 4))))
    }

    fn of(info: &RenewalInfo) -> Result<Self, Failure> {
        let time = |text: &str| {
            let time = OffsetDateTime::parse(text, &Rfc3339);
            time.map(OffsetDateTime::unix_timestamp).map_err(|_| Failure::Malformed("the suggested window"))
        };
        let SuggestedWindow { start, end } = &info.suggested_window;
        let window = Self { start: time(start)?, end: time(end)? };
        if window.start < window.end { Ok(window) } else { Err(Failure::Malformed("the suggested window")) }
    }

    /// A time in it, at the given part of it, but not after `latest`: an authority must not let a certificate end.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "seconds of ten thousand years"
    )]
    pub(super) fn at(&self, fraction: f64, latest: OffsetDateTime) -> OffsetDateTime {
        let into = (self.end.saturating_sub(self.start) as f64 * fraction) as i64;
        let at = self.start.saturating_add(into).min(latest.unix_timestamp());
        OffsetDateTime::from_unix_timestamp(at).unwrap_or(latest)
    }
}

/// When a certificate is renewed without advice: at two thirds of its life, or up to a thirtieth of it before, so that not all
/// that were made together come together.
pub(super) fn at_two_thirds(chain: &Chain, fraction: f64) -> OffsetDateTime {
    chain.not_before() + life(chain).mul_f64(2.0 / 3.0 - fraction / 30.0)
}

/// The latest time to renew a certificate, whatever its authority says: a tenth of its life before its end.
pub(super) fn latest(chain: &Chain) -> OffsetDateTime {
    chain.not_before() + life(chain).mul_f64(0.9)
}

/// How long a certificate lives, as far as that is believed.
pub(super) fn life(chain: &Chain) -> Duration {
    Duration::try_from(chain.not_after() - chain.not_before()).unwrap_or_default().min(LONGEST_LIFE)
}

/// The pause after a success: an hour, which is sixty times the default of `acme.retry`, or a twentieth of the certificate's
/// life. No advice, and no certificate that is born old, brings an order sooner.
pub(super) fn rest(life: Duration, first: Duration) -> Duration {
    first.saturating_mul(60).max(life / 20)
}

/// Whether a key of this age may be replaced: an authority must not fill the engines with keys.
pub(super) fn old_enough(age: Duration, life: Duration) -> bool {
    age >= (life / 2).min(Duration::from_secs(24 * 3600))
}

/// The pause after so many failures in a row.
pub(super) fn pause(failures: u32, first: Duration, asked: Option<Duration>) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let jittered = doubled.min(LONGEST_PAUSE).mul_f64(0.75 + random_fraction() / 2.0);
    asked.map_or(jittered, |asked| jittered.max(asked))
}

/// What the authority calls a certificate (RFC 9773, section 4.1); `None` if it names no key of its issuer.
pub(super) fn certificate_id(chain: &Chain) -> Option<String> {
    let parsed = chain::parse(chain.leaf()).ok()?;
    let issuer = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref(),
        _ => None,
    })?;
    let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    Some(format!("{}.{}", encode(issuer.0), encode(parsed.raw_serial())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_time_in_it_and_never_backwards() {
        let window = |start: &str, end: &str| {
            let suggested_window = SuggestedWindow { start: start.to_owned(), end: end.to_owned() };
            Window::of(&RenewalInfo { suggested_window })
        };
        let two_days = window("2026-01-02T04:00:00Z", "2026-01-04T04:00:00Z").unwrap();
        let latest = time::macros::datetime!(2026-03-01 00:00 UTC);
        assert_eq!(two_days.at(0.5, latest), time::macros::datetime!(2026-01-03 04:00 UTC));
        for (start, end) in [
            ("9000-01-01T00:00:00Z", "9001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:58-23:59", "9999-12-31T23:59:59-23:59"),
            ("0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
        ] {
            // Refused, or bounded; never a panic.
            if let Ok(far) = window(start, end) {
                assert!(far.at(0.99, latest) <= latest, "{start}");
            }
        }
        assert_eq!(window("9000-01-01T00:00:00Z", "9001-01-01T00:00:00Z").unwrap().at(0.0, latest), latest);
        assert!(window("2026-01-04T04:00:00Z", "2026-01-02T04:00:00Z").is_err());
        assert!(window("soon", "2026-01-02T04:00:00Z").is_err());
    }

    #[test]
    fn successes_and_new_keys_have_their_pauses() {
        let (minute, hour, day) =
            (Duration::from_secs(60), Duration::from_secs(3600), Duration::from_secs(24 * 3600));
        assert_eq!(rest(Duration::ZERO, minute), hour);
        assert_eq!(rest(day * 90, minute), day * 90 / 20);
        assert!(!old_enough(hour, day * 90) && old_enough(day, day * 90));
        assert!(old_enough(hour, hour * 2) && !old_enough(minute, hour));
    }

    #[test]
    fn pauses_double_within_bounds_and_heed_the_authority() {
        let first = Duration::from_secs(60);
        for (failures, at_least, at_most) in [
            (1, 45, 75),
            (2, 90, 150),
            (5, 720, 1200),
            (9, 11_520, 19_200),
            (10, 16_200, 27_000),
            (200, 16_200, 27_000),
        ] {
            let pause = pause(failures, first, None).as_secs();
            assert!((at_least..=at_most).contains(&pause), "{failures}: {pause}");
        }
        assert_eq!(pause(1, first, Some(Duration::from_secs(3600))).as_secs(), 3600);
    }
}
