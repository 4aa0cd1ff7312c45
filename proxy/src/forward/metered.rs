use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::activity::Activity;

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
    closing: Closing,
}

enum Closing {
    No,
    /// Nothing more goes out; what comes in is thrown away until the client has closed too.
    Lingering(Pin<Box<Sleep>>),
}

impl<IO> Metered<IO> {
    pub(super) fn new(io: IO, activity: Arc<Activity>) -> Self {
        Self { io, activity, closing: Closing::No }
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
        let Self { io, closing, activity } = &mut *self;
        let patience = match closing {
            Closing::Lingering(patience) => patience,
            Closing::No => {
                ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
                if !activity.may_still_send() {
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
