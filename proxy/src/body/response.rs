use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::BodyError;
use super::compressed::Compressed;
use super::stall::StallTimer;
use crate::compression::{Encoder, Place};
use crate::forward::InFlight;
use crate::journal::Record;
use crate::upstream::Lease;

/// The body of a response to a client. Its request counts as in flight until it is dropped.
pub(crate) struct ResponseBody {
    source: Source,
    stall: StallTimer,
    _in_flight: InFlight,
    record: Record,
}

/// Where a response's body comes from.
pub(crate) enum Source {
    /// Made here, in one piece.
    Own(Option<Bytes>),
    /// On its way from an upstream.
    Upstream {
        incoming: Incoming,
        /// Given back at the body's end. Dropped before, it closes the upstream connection: the client has gone, or the
        /// upstream has broken.
        lease: Option<Lease>,
    },
    /// One of the others, compressed on its way.
    Compressed(Box<Compressed>),
}

impl Source {
    /// A body that is there already.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::Own(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// A body that comes over the leased connection.
    pub(crate) fn upstream(incoming: Incoming, lease: Lease) -> Self {
        if incoming.is_end_stream() {
            lease.finish();
            return Self::Own(None);
        }
        Self::Upstream { incoming, lease: Some(lease) }
    }

    /// The same, compressed; but nothing stays nothing.
    pub(crate) fn compressed(self, encoder: Encoder, place: Place) -> Self {
        match self {
            Self::Own(None) => self,
            inner => Self::Compressed(Box::new(Compressed::new(inner, encoder, place))),
        }
    }

    /// The body's length, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stall: &mut StallTimer,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (incoming, lease) = match self {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Compressed(compressed) => return compressed.poll(cx, stall),
            Self::Upstream { incoming, lease } => (incoming, lease),
        };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                stall.moved();
                match &frame {
                    Some(Err(_)) => drop(lease.take()),
                    Some(Ok(frame)) if !frame.is_trailers() && !incoming.is_end_stream() => {}
                    // The last piece, the trailers, or the end that a chunked body has of its own.
                    Some(Ok(_)) | None => {
                        if let Some(lease) = lease.take() {
                            lease.finish();
                        }
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                ready!(stall.poll_stalled(cx));
                drop(lease.take());
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Upstream { incoming, .. } => incoming.is_end_stream(),
            Self::Compressed(compressed) => compressed.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream { incoming, .. } => incoming.size_hint(),
            Self::Compressed(_) => SizeHint::default(),
        }
    }
}

impl ResponseBody {
    /// A body that fails if nothing of it comes for `stall`.
    pub(crate) fn new(source: Source, stall: Duration, in_flight: InFlight, record: Record) -> Self {
        Self { source, stall: StallTimer::new(stall), _in_flight: in_flight, record }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { source, stall, record, .. } = self.get_mut();
        let frame = ready!(source.poll(cx, stall));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            record.sent(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
