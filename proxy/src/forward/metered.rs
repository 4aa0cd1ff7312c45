use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::activity::Activity;
use super::flood::FloodGuard;
use super::inspect::Inspector;

/// How long a client that still sends is listened to after the last byte to it.
const LINGER: Duration = Duration::from_secs(2);

/// What is thrown away meanwhile of a client that was ended for a flood: enough to have its last word read, not to go on.
const FLOOD_LINGER: usize = 256 * 1024;

/// Then other connections get their turn.
const READS_PER_POLL: usize = 16;

/// A client's connection that notes when bytes move, and that closes so that its last bytes arrive: closing a socket on a
/// client that still sends resets it, and takes a response such as `413 Content Too Large` from the client's hands (RFC
/// 9112, section 9.6).
pub(super) struct Metered<IO> {
    io: IO,
    activity: Arc<Activity>,
    watch: Watch,
    /// What was read, looked at, and given back.
    unread: Bytes,
    /// Why nothing more is read.
    refused: Option<&'static str>,
    closing: Closing,
}

/// What looks at the bytes.
pub(super) enum Watch {
    /// Refuses HTTP/1 requests whose framing is in doubt.
    Http1(Inspector),
    /// Ends HTTP/2 connections that send floods.
    Http2(FloodGuard),
    /// The connection has become a tunnel.
    Nothing,
}

enum Closing {
    No,
    /// The client is told why, from this byte of the frame on.
    Telling(Vec<u8>, usize),
    /// Nothing more goes out; what comes in is thrown away until the client has closed too, so many bytes at most.
    Lingering(Pin<Box<Sleep>>, usize),
}

impl<IO> Metered<IO> {
    pub(super) fn new(io: IO, activity: Arc<Activity>, watch: Watch) -> Self {
        Self { io, activity, watch, unread: Bytes::new(), refused: None, closing: Closing::No }
    }

    /// Takes back what was read last, to give it to the next who reads.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        // An empty piece of a buffer would keep all of it.
        self.unread = if bytes.is_empty() { Bytes::new() } else { bytes };
    }

    /// Whether what was given back keeps a buffer.
    #[cfg(test)]
    pub(super) fn keeps_buffer(&self) -> bool {
        self.unread.is_unique()
    }

    /// Looks at what was read into `buffer` from `start` on.
    fn inspect(&mut self, buffer: &mut ReadBuf<'_>, start: usize) -> io::Result<()> {
        if self.activity.has_switched() {
            self.watch = Watch::Nothing;
        }
        let read = &buffer.filled()[start..];
        match &mut self.watch {
            Watch::Nothing => {}
            Watch::Http2(guard) => {
                if let Err(flood) = guard.received(read, self.activity.millis()) {
                    self.activity.abused(flood.abuse);
                    self.refused = Some("too many frames of one kind");
                    // To HTTP/2 it looks as if the client had closed here: all its streams end, and then the connection.
                    buffer.set_filled(start + flood.at);
                }
            }
            Watch::Http1(inspector) => {
                let Err(violation) = inspector.inspect(read) else {
                    self.activity.followed(inspector.heads(), inspector.is_within_request());
                    return Ok(());
                };
                self.activity.closes();
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
                if at == start {
                    return Err(refusal(violation.reason));
                }
            }
        }
        Ok(())
    }

    /// Whether the client may not have noticed yet that nothing is wanted of it any more.
    fn may_still_send(&self) -> bool {
        let is_within_request =
            matches!(&self.watch, Watch::Http1(inspector) if inspector.is_within_request());
        self.activity.may_still_send() || is_within_request
    }

    /// Whether an HTTP/2 client is ended for what it sent.
    fn is_flood(&self) -> bool {
        matches!(&self.watch, Watch::Http2(guard) if guard.abuse().is_some())
    }

    /// How the connection begins to close: an HTTP/2 client that flooded is told so.
    fn close(&self) -> Closing {
        match &self.watch {
            Watch::Http2(guard) if self.refused.is_some() => {
                guard.go_away().map_or(Closing::No, |frame| Closing::Telling(frame, 0))
            }
            _ => Closing::No,
        }
    }

    /// Notes what was written of these bytes.
    fn noted(
        &mut self,
        written: Poll<io::Result<usize>>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count @ 1..)) = written {
            self.activity.bytes_moved(false);
            self.activity.written();
            if let Watch::Http2(guard) = &mut self.watch {
                let mut left = count;
                for slice in slices {
                    let taken = left.min(slice.len());
                    guard.sent(&slice[..taken]);
                    left -= taken;
                }
                if let Some(abuse) = guard.abuse() {
                    self.activity.abused(abuse);
                }
            }
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
        if !self.unread.is_empty() {
            let given = buffer.remaining().min(self.unread.len());
            buffer.put_slice(&self.unread.split_to(given));
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = self.refused {
            let is_http2 = matches!(self.watch, Watch::Http2(_));
            return Poll::Ready(if is_http2 { Ok(()) } else { Err(refusal(reason)) });
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
        self.noted(written, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.noted(written, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.activity.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.closes();
        let is_flood = self.is_flood();
        let may_still_send = is_flood || self.may_still_send();
        if matches!(self.closing, Closing::No) {
            self.closing = self.close();
        }
        let Self { io, closing, .. } = &mut *self;
        if let Closing::Telling(frame, told) = closing {
            while *told < frame.len() {
                match ready!(Pin::new(&mut *io).poll_write(cx, &frame[*told..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => *told += written,
                }
            }
        }
        let (patience, left) = match closing {
            Closing::Lingering(patience, left) => (patience, left),
            Closing::No | Closing::Telling(..) => {
                ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
                if !may_still_send {
                    return Poll::Ready(Ok(()));
                }
                let most = if is_flood { FLOOD_LINGER } else { usize::MAX };
                *closing = Closing::Lingering(Box::pin(sleep(LINGER)), most);
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
                Ok(()) if !buffer.filled().is_empty() && *left > 0 => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
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
