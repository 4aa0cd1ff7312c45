use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What a client's connection is doing, and since when: the basis of its timeouts, kept without a timer for each request.
///
/// Only one thread uses it; it is atomic because hyper wants an upgraded connection to be `Send`, and relaxed atomics
/// cost what cells cost.
pub(super) struct Activity {
    start: Instant,
    in_flight: AtomicU32,
    served: AtomicBool,
    /// Nanoseconds since `start`, like those below: when the connection began to wait for a request.
    waiting_since: AtomicU64,
    /// When the first byte came after that; 0 if none has.
    head_since: AtomicU64,
    /// When bytes last moved, in any direction.
    moved: AtomicU64,
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
            waiting_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            moved: AtomicU64::new(0),
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

    fn at(&self, mark: &AtomicU64) -> Instant {
        self.start + Duration::from_nanos(mark.load(Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn bytes_moved(&self, read: bool) {
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
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.served.store(true, Relaxed);
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

/// A connection that notes when bytes move.
pub(super) struct Metered<IO> {
    io: IO,
    activity: Arc<Activity>,
}

impl<IO> Metered<IO> {
    pub(super) fn new(io: IO, activity: Arc<Activity>) -> Self {
        Self { io, activity }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.bytes_moved(false);
        }
        written
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_moved(true);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
