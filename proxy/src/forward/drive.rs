use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::activity::{Activity, Waiting};
use super::rest::REST;
use crate::config::Timeouts;
use crate::connection::Protocol;
use crate::shutdown::Shutdown;

/// What the last resort waits longer than the timers that know more.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How long a drain waits for the first request of a client that has made its handshake: it is on its way.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// How long a connection may stay in each state.
pub(super) struct Patience {
    header: Duration,
    idle: Duration,
    stall: Duration,
    /// From when it is to finish.
    drain: Duration,
    /// Bytes between two requests are the next one's head. Not so in HTTP/2, where they may be pings.
    bytes_are_head: bool,
    /// After how long without a request a connection rests.
    rest: Duration,
}

/// What a connection can be told, beside being polled.
pub(super) struct Commands<Close, Rest> {
    /// To take no more requests.
    pub(super) close: Close,
    /// To rest, for its client has been silent.
    pub(super) rest: Rest,
}

/// Why a connection ended before the client closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client did not send a whole request head in time")]
    SlowHead,
    #[error("neither side moved a byte in time")]
    Stalled,
    #[error("the client did not close after it was asked to")]
    Lingering,
    #[error("it had not finished within timeouts.drain")]
    Retired,
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Connection(#[from] io::Error),
}

enum Verdict {
    Wait(Instant),
    Close,
    Abort(Ended),
}

impl Patience {
    pub(super) fn new(timeouts: &Timeouts, protocol: Protocol) -> Self {
        Self {
            header: timeouts.header,
            idle: timeouts.idle,
            stall: timeouts.stall.max(timeouts.upstream_response) + GRACE,
            drain: timeouts.drain,
            bytes_are_head: protocol == Protocol::Http1,
            rest: match protocol {
                Protocol::Http1 => REST,
                Protocol::Http2 => Duration::MAX,
            },
        }
    }

    fn judge(&self, waiting: Waiting, now: Instant) -> Verdict {
        let (deadline, verdict) = match waiting {
            Waiting::FirstRequest(since) => (since + self.header, Verdict::Abort(Ended::SlowHead)),
            Waiting::Head(since) if self.bytes_are_head => {
                (since + self.header, Verdict::Abort(Ended::SlowHead))
            }
            Waiting::Head(since) | Waiting::NextRequest(since) => (since + self.idle, Verdict::Close),
            Waiting::Exchange(since) => (since + self.stall, Verdict::Abort(Ended::Stalled)),
        };
        if deadline > now { Verdict::Wait(deadline) } else { verdict }
    }

    /// How long states are left alone: they change between two looks.
    fn between_looks(&self) -> Duration {
        self.header.min(self.idle)
    }
}

/// Runs a connection to its end, closes it when it is idle for too long or the proxy drains, and gives up on clients that
/// stall. One timer for the whole connection, moved only when it fires.
///
/// The connection is on the heap: each future that it were handed through by value would keep room for a copy of it, for as long as
/// the client stays.
pub(super) async fn drive<C, E>(
    mut connection: Pin<Box<C>>,
    commands: Commands<impl Fn(Pin<&mut C>), impl Fn(Pin<&mut C>)>,
    activity: &Activity,
    patience: &Patience,
    mut shutdown: Shutdown,
) -> Result<(), Ended>
where
    C: Future<Output = Result<(), E>>,
    Ended: From<E>,
{
    let Commands { close, rest } = commands;
    let mut timer = pin!(sleep_until(Instant::now() + patience.between_looks().min(patience.rest)));
    let mut draining = pin!(async {
        shutdown.requested().await;
        // Without it, whoever connected just before would find the connection closed instead of an answer.
        let _ = timeout(FIRST_REQUEST, activity.first_request()).await;
    });
    let mut closing = false;
    let mut drained = false;
    let mut cut_off = None;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return Ok(ended?),
            () = timer.as_mut() => {
                let now = Instant::now();
                if cut_off.is_some_and(|at| at <= now) {
                    return Err(Ended::Retired);
                }
                let waiting = activity.waiting();
                match patience.judge(waiting, now) {
                    Verdict::Wait(until) => {
                        let next_look = match waiting {
                            Waiting::NextRequest(since) if now - since >= patience.rest => {
                                rest(connection.as_mut());
                                patience.between_looks()
                            }
                            Waiting::NextRequest(since) => patience.between_looks().min(patience.rest - (now - since)),
                            _ => patience.between_looks().min(patience.rest),
                        };
                        let next = until.min(now + next_look);
                        timer.as_mut().reset(cut_off.map_or(next, |at| next.min(at)));
                    }
                    Verdict::Close if !closing => {
                        closing = true;
                        close(connection.as_mut());
                        timer.as_mut().reset(now + GRACE);
                    }
                    Verdict::Close => return Err(Ended::Lingering),
                    Verdict::Abort(reason) => return Err(reason),
                }
            }
            () = draining.as_mut(), if !drained => {
                drained = true;
                closing = true;
                close(connection.as_mut());
                let now = Instant::now();
                cut_off = now.checked_add(patience.drain);
                timer.as_mut().reset(now + GRACE.min(patience.drain));
            }
        }
    }
}
