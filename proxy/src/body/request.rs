use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::stall::StallTimer;
use super::{BodyError, Gate};
use crate::headers;
use crate::respond::Failure;

/// How long a client waits for `100 Continue` from an upstream that may never send one (RFC 9110, section 10.1.1).
const EXPECT_PATIENCE: Duration = Duration::from_secs(1);

/// A client's request body on its way to an upstream.
pub(crate) struct RequestBody(Option<Box<Stream>>);

struct Stream {
    incoming: Incoming,
    stall: StallTimer,
    /// How much more of it may come.
    left: u64,
    progress: Rc<Progress>,
    gate: Option<(Gate, Pin<Box<Sleep>>)>,
}

/// How far a request's body has come, seen by whoever waits for the response.
pub(crate) struct Progress {
    moved: Cell<Instant>,
    /// The upstream could take more, the client has not sent it yet.
    awaits_client: Cell<bool>,
    failed: Cell<Option<Fault>>,
}

#[derive(Clone, Copy)]
enum Fault {
    Stalled,
    TooLarge,
    Broken,
}

impl RequestBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// A body that fails if the client sends nothing of it for `stall`, or more than `most` bytes.
    pub(crate) fn streaming(
        incoming: Incoming,
        stall: Duration,
        most: u64,
        gate: Option<Gate>,
    ) -> (Self, Rc<Progress>) {
        let progress = Rc::new(Progress {
            moved: Cell::new(Instant::now()),
            awaits_client: Cell::new(false),
            failed: Cell::new(None),
        });
        let gate = gate.map(|gate| (gate, Box::pin(sleep(EXPECT_PATIENCE))));
        let stall = StallTimer::new(stall);
        let stream = Stream { incoming, stall, left: most, progress: Rc::clone(&progress), gate };
        (Self(Some(Box::new(stream))), progress)
    }

    /// Whether there never was a body.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Progress {
    /// When the body last moved; `None` if it waits for the client, whose time is limited elsewhere.
    pub(crate) fn moved(&self) -> Option<Instant> {
        (!self.awaits_client.get()).then(|| self.moved.get())
    }

    /// The client's fault, if the body failed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failed.get().map(|fault| match fault {
            Fault::Stalled => Failure::BodyTimeout,
            Fault::TooLarge => Failure::BodyTooLarge,
            Fault::Broken => Failure::ClientGone,
        })
    }
}

impl Stream {
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some((gate, patience)) = &mut self.gate else { return Poll::Ready(Ok(())) };
        if gate.is_waiting() && patience.as_mut().poll(cx).is_ready() {
            gate.open();
        }
        let open = ready!(gate.poll_open(cx));
        self.gate = None;
        Poll::Ready(if open { Ok(()) } else { Err(BodyError::Unwanted) })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(stream) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        ready!(stream.poll_gate(cx))?;
        let progress = &stream.progress;
        match Pin::new(&mut stream.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                stream.stall.moved();
                progress.moved.set(Instant::now());
                progress.awaits_client.set(false);
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(mut frame) => {
                        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                        let Some(left) = stream.left.checked_sub(length) else {
                            progress.failed.set(Some(Fault::TooLarge));
                            return Err(BodyError::TooLarge);
                        };
                        stream.left = left;
                        frame.trailers_mut().map(headers::prepare_trailers);
                        Ok(frame)
                    }
                    Err(error) => {
                        progress.failed.set(Some(Fault::Broken));
                        Err(error.into())
                    }
                }))
            }
            Poll::Pending => {
                progress.awaits_client.set(true);
                ready!(stream.stall.poll_stalled(cx));
                progress.failed.set(Some(Fault::Stalled));
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|stream| stream.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |stream| stream.incoming.size_hint())
    }
}
