use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::activity::Activity;
use super::inspect::Inspector;

/// How long a client that still sends is listened to after the last byte to it.
const LINGER: Duration = Duration::from_secs(2);

/// Then other connections get their turn.
const READS_PER_POLL: usize = 16;

/// A client's connection that notes when bytes move, and that closes so that its last bytes arrive: closing a socket on a
/// client that still sends resets it, and takes a response such as `413 Content Too Large` from the client's hands (RFC
/// 9112, section 9.6).
pub(super) struct Metered<IO> {
    io: IO,
    activity: Arc<Activity>,
    /// Only for HTTP/1.
    inspector: Option<Inspector>,
    /// Why nothing more is read.
    refused: Option<&'static str>,
    closing: Closing,
}

enum Closing {
    No,
    /// Nothing more goes out; what comes in is thrown away until the client has closed too.
    Lingering(Pin<Box<Sleep>>),
}

impl<IO> Metered<IO> {
    pub(super) fn new(io: IO, activity: Arc<Activity>, inspector: Option<Inspector>) -> Self {
        Self { io, activity, inspector, refused: None, closing: Closing::No }
    }

    /// Looks at what was read into `buffer` from `start` on.
    fn inspect(&mut self, buffer: &mut ReadBuf<'_>, start: usize) -> io::Result<()> {
        let Some(inspector) = &mut self.inspector else { return Ok(()) };
        if self.activity.has_switched() {
            self.inspector = None;
            return Ok(());
        }
        let Err(violation) = inspector.inspect(&buffer.filled()[start..]) else { return Ok(()) };
        debug!(reason = violation.reason, "request refused");
        self.refused = Some(violation.reason);
        let at = start + violation.at;
        if violation.in_head {
            // No head may have it, so hyper answers with 400 and closes.
            buffer.filled_mut()[at] = 0;
            buffer.set_filled(at + 1);
            return Ok(());
        }
        // What is before it may be a head with the beginning of its body, which then breaks off: 400 as well.
        buffer.set_filled(at);
        if at == start { Err(refusal(violation.reason)) } else { Ok(()) }
    }

    /// Whether the client may not have noticed yet that nothing is wanted of it any more.
    fn may_still_send(&self) -> bool {
        self.activity.may_still_send() || self.inspector.as_ref().is_some_and(Inspector::is_within_request)
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
        if let Some(reason) = self.refused {
            return Poll::Ready(Err(refusal(reason)));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_moved(true);
            self.inspect(buffer, before)?;
        }
        read
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
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
        let may_still_send = self.may_still_send();
        let Self { io, closing, .. } = &mut *self;
        let patience = match closing {
            Closing::Lingering(patience) => patience,
            Closing::No => {
                ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
                if !may_still_send {
                    return Poll::Ready(Ok(()));
                }
                *closing = Closing::Lingering(Box::pin(sleep(LINGER)));
                return self.poll_shutdown(cx);
            }
        };
        if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut sink = [0; 8192];
        for _ in 0..READS_PER_POLL {
            let mut buffer = ReadBuf::new(&mut sink);
            match ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn refusal(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
