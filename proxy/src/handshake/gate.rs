use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that swallows what is written once it is shut, and gives nothing more to read.
///
/// When a key can't sign, rustls has its ServerHello ready, and tokio-rustls sends it before it reports the error. After a
/// ServerHello only encrypted alerts count, and nobody can make one any more. So nothing is sent, and the client gets
/// its alert in the clear, as the server's first word.
///
/// Until it is asked for them, it also keeps the first bytes that were read: rustls does not show all of a ClientHello.
pub(crate) struct Gate<IO> {
    io: IO,
    shut: Arc<AtomicBool>,
    first_bytes: Option<Vec<u8>>,
}

/// The longest beginning that is kept; a ClientHello has about 2 KiB.
const FIRST_BYTES: usize = 16 * 1024;

impl<IO> Gate<IO> {
    pub(super) fn new(io: IO, shut: Arc<AtomicBool>) -> Self {
        Self { io, shut, first_bytes: Some(Vec::new()) }
    }

    /// What was read until now, unless it was more than [`FIRST_BYTES`]. From here on nothing is kept.
    pub(super) fn take_first_bytes(&mut self) -> Vec<u8> {
        self.first_bytes.take().unwrap_or_default()
    }

    /// The connection itself, which takes what is written.
    pub(super) fn into_inner(self) -> IO {
        self.io
    }

    fn is_shut(&self) -> bool {
        self.shut.load(Relaxed)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gate<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_shut() {
            // Whoever polls the handshake once more ends it, before it has computed anything.
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if let Some(first) = &mut self.first_bytes {
            first.extend_from_slice(&buffer.filled()[before..]);
            if first.len() > FIRST_BYTES {
                self.first_bytes = None;
            }
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gate<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_shut() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_shut() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
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
