use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::BodyError;
use super::stall::StallTimer;
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
        let (incoming, lease) = match source {
            Source::Own(bytes) => {
                let bytes = bytes.take();
                record.sent(bytes.as_ref().map_or(0, Bytes::len));
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Source::Upstream { incoming, lease } => (incoming, lease),
        };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                stall.moved();
                if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    record.sent(data.len());
                }
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
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}
