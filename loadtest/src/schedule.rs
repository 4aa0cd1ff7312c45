//! When handshakes begin, and how many there are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When a load is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// After so many handshakes.
    Count(u64),
    /// When no handshake may begin any more; those that have begun are waited for.
    Duration(Duration),
}

/// Deals out the beginnings of handshakes to all tasks of all threads.
#[derive(Debug)]
pub(crate) struct Schedule {
    begun: Instant,
    extent: Extent,
    /// Handshakes a second in an open loop; in a closed loop, the next begins when one is finished.
    rate: Option<f64>,
    issued: AtomicU64,
    stopped: AtomicBool,
}

/// Tokio's timers are this coarse, and being woken late by them is the client's fault, not the server's.
const TIMER_SLACK: Duration = Duration::from_millis(2);

impl Schedule {
    pub(crate) fn new(begun: Instant, extent: Extent, rate: Option<f64>) -> Self {
        Self { begun, extent, rate, issued: AtomicU64::new(0), stopped: AtomicBool::new(false) }
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// No more handshakes.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits until the next handshake is due and gives the time from which its latency counts; `None` at the end.
    ///
    /// In an open loop that time is the appointed one, even if every task was busy then: a server that stalls is
    /// charged for the handshakes that could not begin (no "coordinated omission").
    pub(crate) async fn next(&self) -> Option<Instant> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        if matches!(self.extent, Extent::Count(count) if number >= count) {
            return None;
        }
        let Some(rate) = self.rate else {
            let now = Instant::now();
            return (!self.is_over(now)).then_some(now);
        };
        #[allow(clippy::cast_precision_loss)] // exact up to 2^53 handshakes
        let appointed = self.begun + Duration::from_secs_f64(number as f64 / rate);
        if self.is_over(appointed) {
            return None;
        }
        if appointed <= Instant::now() {
            return Some(appointed);
        }
        tokio::time::sleep_until(appointed.into()).await;
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        Some(Instant::now().min(appointed + TIMER_SLACK))
    }

    fn is_over(&self, time: Instant) -> bool {
        matches!(self.extent, Extent::Duration(limit) if time.duration_since(self.begun) >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_count_is_exact() {
        let schedule = Schedule::new(Instant::now(), Extent::Count(3), None);
        block_on(async {
            for _ in 0..3 {
                assert!(schedule.next().await.is_some());
            }
            assert!(schedule.next().await.is_none());
        });
    }

    #[test]
    fn an_open_loop_charges_for_lateness() {
        let begun = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let schedule = Schedule::new(begun, Extent::Duration(Duration::from_secs(1)), Some(10.0));
        block_on(async {
            for number in 0..10u32 {
                assert_eq!(schedule.next().await, Some(begun + Duration::from_millis(100) * number));
            }
            assert_eq!(schedule.next().await, None);
        });
    }

    #[test]
    fn nothing_begins_after_the_end_or_a_stop() {
        let begun = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let over = Schedule::new(begun, Extent::Duration(Duration::from_secs(1)), None);
        assert_eq!(block_on(over.next()), None);
        let stopped = Schedule::new(Instant::now(), Extent::Count(10), None);
        stopped.stop();
        assert_eq!(block_on(stopped.next()), None);
    }
}
