//! The status page: what the operator sees. `/` is one self-contained page, `/status.json` what it draws.
//!
//! The proxy keeps the last [`WINDOW`] itself, a sample each second, so that a page that is opened after an incident
//! still shows it.

mod follow;
mod history;
pub(crate) mod page;
mod report;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::shutdown::Shutdown;
use crate::worker::Shared;
use follow::Follower;
use history::History;
pub(crate) use page::PAGE;

/// How much of the past is kept.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// The past of one process, for the worker that serves the admin listener.
pub(crate) struct Status {
    shared: Arc<Shared>,
    started: OffsetDateTime,
    history: RefCell<History>,
}

impl Status {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let most = usize::try_from(WINDOW.as_secs() / INTERVAL.as_secs()).unwrap_or(usize::MAX);
        Self { shared, started: OffsetDateTime::now_utc(), history: RefCell::new(History::new(most)) }
    }

    /// Takes samples, for ever.
    pub(crate) async fn follow(&self) {
        let mut follower = Follower::new();
        let mut ticks = tokio::time::interval(INTERVAL);
        // After a pause nobody wants the missed ones: a sample says how long it is.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let view = self.shared.views.all().await;
            let generation = Arc::clone(&self.shared.generation.borrow());
            let now = OffsetDateTime::now_utc();
            follower.sample(now, &self.shared.metrics, &view, &generation, &mut self.history.borrow_mut());
        }
    }

    /// What `/status.json` says: the state of now, and what happened after `since`, in milliseconds of Unix time.
    pub(crate) async fn json(&self, shutdown: &Shutdown, since: u64) -> String {
        let view = self.shared.views.all().await;
        let generation = Arc::clone(&self.shared.generation.borrow());
        let (now, history) = (OffsetDateTime::now_utc(), self.history.borrow());
        let report = report::Report::new(
            &report::Sources {
                metrics: &self.shared.metrics,
                view: &view,
                generation: &generation,
                history: &history,
                workers: self.shared.views.workers(),
            },
            report::Moments { started: self.started, now, since, draining: shutdown.is_requested() },
        );
        // Strings and numbers only: that can't fail.
        serde_json::to_string(&report).unwrap_or_default()
    }
}

/// Unix time in milliseconds; 0 before 1970.
fn millis(moment: OffsetDateTime) -> u64 {
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
