use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;

use super::BodyError;
use super::response::Source;
use super::stall::StallTimer;
use crate::compression::{Encoder, Place};

/// What is gathered before it goes out, while the upstream keeps sending.
const PIECE: usize = 16 * 1024;

/// What is taken in before other connections get their turn.
const INPUT_PER_POLL: usize = 256 * 1024;

/// A body that is compressed on its way. When the upstream pauses, the client gets all that came before: events arrive when
/// they happen.
pub(crate) struct Compressed {
    inner: Source,
    /// `None` once the end is made.
    encoder: Option<Encoder>,
    /// Whether something was written since the last flush.
    unflushed: bool,
    trailers: Option<HeaderMap>,
    _place: Place,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl Compressed {
    pub(super) fn new(inner: Source, encoder: Encoder, place: Place) -> Self {
        Self { inner, encoder: Some(encoder), unflushed: false, trailers: None, _place: place }
    }

    pub(super) fn is_end(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stall: &mut StallTimer) -> Polled {
        let mut taken = 0;
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            if encoder.ready() >= PIECE || (taken >= INPUT_PER_POLL && encoder.ready() > 0) {
                return Poll::Ready(Some(Ok(Frame::data(encoder.take()))));
            }
            if taken >= INPUT_PER_POLL {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.inner.poll(cx, stall) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        taken += data.len();
                        self.unflushed = true;
                        encoder.write(&data).map_err(BodyError::Compression)?;
                    }
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        if let Some(last) = self.finish()? {
                            return Poll::Ready(Some(Ok(last)));
                        }
                    }
                },
                Poll::Ready(None) => {
                    if let Some(last) = self.finish()? {
                        return Poll::Ready(Some(Ok(last)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    if std::mem::take(&mut self.unflushed) {
                        encoder.flush().map_err(BodyError::Compression)?;
                    }
                    if encoder.ready() == 0 {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(encoder.take()))));
                }
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Frame<Bytes>>, BodyError> {
        let Some(encoder) = self.encoder.take() else { return Ok(None) };
        let last = encoder.finish().map_err(BodyError::Compression)?;
        Ok((!last.is_empty()).then(|| Frame::data(last)))
    }
}
