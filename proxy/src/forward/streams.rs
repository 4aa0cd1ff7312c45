use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use crate::handshake::next_poll;

/// Runs the streams of HTTP/2 connections as tasks of this thread, and drops those that nothing has woken for too long.
///
/// Without that a client could open streams, never grant them flow control, and hold a response and its upstream
/// connection for each, while pings keep the connection itself alive. Dropping a stream resets it.
#[derive(Clone)]
pub(super) struct StreamExecutor {
    stall: Duration,
}

impl StreamExecutor {
    pub(super) fn new(stall: Duration) -> Self {
        Self { stall }
    }
}

impl<F: Future + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        // On the heap at once: a task is copied several times before it has its place, and a stream is large.
        spawn_local(unless_stalled(Box::pin(stream), self.stall));
    }
}

async fn unless_stalled<F: Future>(mut stream: Pin<Box<F>>, stall: Duration) {
    let mut woken = Instant::now();
    let mut timer = pin!(sleep_until(woken + stall));
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if timer.as_mut().poll(cx).is_pending() {
            woken = Instant::now();
            return Poll::Pending;
        }
        if woken + stall <= Instant::now() {
            return Poll::Ready(());
        }
        timer.as_mut().reset(woken + stall);
        timer.as_mut().poll(cx)
    })
    .await;
}

/// Lets the HTTP/2 library look whether the stream has been reset, before anything is done for its request: it looks when the
/// request has to wait for something. Heads and resets often come together, and a connection that is being ended hands on the
/// requests that it still has.
pub(super) async fn unless_reset() {
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Ready(())
    })
    .await;
    next_poll().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nothing_wakes_is_dropped_and_a_slow_one_is_not() {
        let start = Instant::now();
        unless_stalled(Box::pin(std::future::pending::<()>()), Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 60);

        let start = Instant::now();
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
        };
        unless_stalled(Box::pin(slow), Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 500);
    }
}
