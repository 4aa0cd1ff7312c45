use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::abuse::Abuse;

/// What a client's connection is doing, and since when: the basis of its timeouts, kept without a timer for each request.
///
/// Only one thread uses it; it is atomic because hyper wants an upgraded connection to be `Send`, and relaxed atomics
/// cost what cells cost.
pub(super) struct Activity {
    start: Instant,
    in_flight: AtomicU32,
    served: AtomicBool,
    /// Told of the first request.
    first: Notify,
    /// Whether the last request had a body, which may be on its way still.
    last_has_body: AtomicBool,
    /// Whether the connection has become a tunnel.
    switched: AtomicBool,
    /// Nanoseconds since `start`, like those below: when the connection began to wait for a request.
    waiting_since: AtomicU64,
    /// When the first byte came after that; 0 if none has.
    head_since: AtomicU64,
    /// When bytes last moved, in any direction.
    moved: AtomicU64,
    /// One more than the number of the abuse that the connection is ended for; 0 if there is none.
    abuse: AtomicU8,
    /// Requests that were begun to be answered, and heads of requests in the bytes that were read; both may wrap.
    begun: AtomicU32,
    heads: AtomicU32,
    /// Whether the last byte that was read is inside a request.
    within_request: AtomicBool,
    /// Whether bytes were written that were not flushed.
    unflushed: AtomicBool,
    /// Whether nothing more is read, or written.
    closes: AtomicBool,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For its first request, since the handshake.
    FirstRequest(Instant),
    /// For the rest of a request's head.
    Head(Instant),
    /// For another request.
    NextRequest(Instant),
    /// Requests are in flight; bytes last moved then.
    Exchange(Instant),
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            in_flight: AtomicU32::new(0),
            served: AtomicBool::new(false),
            first: Notify::new(),
            last_has_body: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            waiting_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            abuse: AtomicU8::new(0),
            begun: AtomicU32::new(0),
            heads: AtomicU32::new(0),
            within_request: AtomicBool::new(false),
            unflushed: AtomicBool::new(false),
            closes: AtomicBool::new(false),
        }
    }

    pub(super) fn waiting(&self) -> Waiting {
        let head = self.head_since.load(Relaxed);
        if self.in_flight.load(Relaxed) > 0 {
            Waiting::Exchange(self.at(&self.moved))
        } else if !self.served.load(Relaxed) {
            Waiting::FirstRequest(self.start)
        } else if head > 0 {
            Waiting::Head(self.at(&self.head_since))
        } else {
            Waiting::NextRequest(self.at(&self.waiting_since))
        }
    }

    /// Completes when the first request has come; at once if it has. For one waiter.
    pub(super) async fn first_request(&self) {
        if !self.served.load(Relaxed) {
            self.first.notified().await;
        }
    }

    /// Whether the client may be sending although nothing is wanted of it any more.
    pub(super) fn may_still_send(&self) -> bool {
        self.last_has_body.load(Relaxed)
    }

    /// What follows is not HTTP any more.
    pub(super) fn switch(&self) {
        self.switched.store(true, Relaxed);
    }

    pub(super) fn has_switched(&self) -> bool {
        self.switched.load(Relaxed)
    }

    /// The connection is ended for this.
    pub(super) fn abused(&self, abuse: Abuse) {
        self.abuse.store(abuse as u8 + 1, Relaxed);
    }

    /// What it is ended for, if it is.
    pub(super) fn abuse(&self) -> Option<Abuse> {
        let number = self.abuse.load(Relaxed).checked_sub(1)?;
        Abuse::ALL.get(usize::from(number)).copied()
    }

    /// An HTTP/1 connection's bytes so far have so many heads, and end inside a request or not.
    pub(super) fn followed(&self, heads: u32, within_request: bool) {
        self.heads.store(heads, Relaxed);
        self.within_request.store(within_request, Relaxed);
    }

    pub(super) fn written(&self) {
        self.unflushed.store(true, Relaxed);
    }

    pub(super) fn flushed(&self) {
        self.unflushed.store(false, Relaxed);
    }

    /// The connection is on its way to its end.
    pub(super) fn closes(&self) {
        self.closes.store(true, Relaxed);
    }

    /// Whether whoever serves the HTTP/1 connection next could take it for a new one: each request that was read is answered, the
    /// answers are with the kernel, and not a byte of another has come.
    pub(super) fn is_between_requests(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
            && self.heads.load(Relaxed) == self.begun.load(Relaxed)
            && ![&self.within_request, &self.unflushed, &self.closes, &self.switched]
                .into_iter()
                .any(|obstacle| obstacle.load(Relaxed))
    }

    /// Milliseconds from the connection's start to its last byte.
    pub(super) fn millis(&self) -> u64 {
        self.moved.load(Relaxed) / 1_000_000
    }

    fn at(&self, mark: &AtomicU64) -> Instant {
        self.start + Duration::from_nanos(mark.load(Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn bytes_moved(&self, read: bool) {
        let now = self.now();
        self.moved.store(now, Relaxed);
        if read && self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now, Relaxed);
        }
    }
}

/// A request in flight, from its head to the end of its response's body.
pub(crate) struct InFlight(Arc<Activity>);

impl InFlight {
    pub(super) fn begin(activity: &Arc<Activity>, has_body: bool) -> Self {
        if !activity.served.swap(true, Relaxed) {
            activity.first.notify_one();
        }
        activity.last_has_body.store(has_body, Relaxed);
        activity.begun.fetch_add(1, Relaxed);
        activity.in_flight.fetch_add(1, Relaxed);
        activity.head_since.store(0, Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.0.head_since.store(0, Relaxed);
            self.0.waiting_since.store(self.0.now(), Relaxed);
        }
    }
}
