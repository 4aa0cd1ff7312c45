//! The log on standard error, and what keeps a peer from flooding it.

use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Starts the log. A second start (in tests) changes nothing.
pub(crate) fn start(config: &Config) {
    let filter = EnvFilter::builder().parse_lossy(&config.log);
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let _already_set = match config.log_format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
}

/// A panic's formatted message may hold what the request held: only fixed texts are logged.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message withheld)");
    let thread = std::thread::current();
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread = thread.name().unwrap_or("unnamed"), at, "panic: {message}");
}

/// Lets one event through in each period, with the number of those held back since the last.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    last: Option<Duration>,
    held_back: u64,
}

impl RateLimit {
    const PERIOD: Duration = Duration::from_secs(5);

    /// `Some(held back)` if the event at `now` is to be logged.
    pub(crate) fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_sub(last) < Self::PERIOD) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_in_each_period_and_a_count_of_the_others() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.admit(Duration::ZERO), Some(0));
        assert_eq!(limit.admit(Duration::from_secs(1)), None);
        assert_eq!(limit.admit(Duration::from_secs(4)), None);
        assert_eq!(limit.admit(Duration::from_secs(5)), Some(2));
        assert_eq!(limit.admit(Duration::from_secs(10)), Some(0));
    }
}
