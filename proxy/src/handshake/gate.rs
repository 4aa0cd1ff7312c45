use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::slices::poll_write_slices;

/// A connection that decides what of a handshake reaches the client, and when.
///
/// * Once it is shut, it swallows what is written, and gives nothing more to read. When a key can't sign, rustls has its ServerHello ready,
///   and tokio-rustls sends it before it reports the error. After a ServerHello only encrypted alerts count, and nobody can make one any more.
///   So nothing is sent, and the client gets its alert in the clear, as the server's first word.
/// * It withholds what the server says last in a handshake of TLS 1.3, a ticket, until something else is written or it is told to let go: a
///   system call less where the response is next.
/// * Until it is asked for them, it also keeps the first bytes that were read: rustls does not show all of a ClientHello.
pub(crate) struct Gate<IO> {
    io: IO,
    shut: Arc<AtomicBool>,
    phase: Phase,
    /// What was read in [`Phase::Hello`]; what is withheld in the others.
    kept: Vec<u8>,
    /// The client has spoken since something was written.
    client_spoke: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Hello,
    /// As before, but for the first bytes, which were too many.
    LongHello,
    /// From the server's first word on.
    Handshake,
    Over,
}

/// The longest beginning that is kept; a ClientHello has about 2 KiB.
const FIRST_BYTES: usize = 16 * 1024;

/// The first byte of a record that is encrypted as in TLS 1.3 (RFC 8446, section 5.2). In a handshake of TLS 1.2 there are none of this type.
const APPLICATION_DATA: u8 = 23;

/// The most that is withheld. A ticket has a client's certificates in it, and a client may ask for several.
const WITHHELD: usize = 2048;

/// Most pieces that are written with what was withheld; a response has fewer.
const PIECES: usize = 16;

impl<IO> Gate<IO> {
    pub(super) fn new(io: IO, shut: Arc<AtomicBool>) -> Self {
        Self { io, shut, phase: Phase::Hello, kept: Vec::new(), client_spoke: false }
    }

    /// What was read until now, unless it was more than [`FIRST_BYTES`]. From here on nothing is kept.
    pub(super) fn take_first_bytes(&mut self) -> Vec<u8> {
        let first = std::mem::take(&mut self.kept);
        self.phase = Phase::Handshake;
        first
    }

    /// The handshake is made: what was withheld goes out before whatever is written next.
    pub(super) fn handshake_is_over(&mut self) {
        self.phase = Phase::Over;
    }

    /// The connection itself, which takes what is written.
    pub(super) fn into_inner(self) -> IO {
        self.io
    }

    fn is_shut(&self) -> bool {
        self.shut.load(Relaxed)
    }

    /// Whether this is what the server says to a client's Finished in TLS 1.3: tickets, or an alert, which whoever sees the handshake fail lets
    /// go. Before that, what it says to a client begins in the clear; and rustls reads nothing before all was written that it had to say.
    fn is_last_word(&self, slices: &[IoSlice<'_>], length: usize) -> bool {
        let first = slices.iter().find_map(|slice| slice.first());
        self.phase == Phase::Handshake
            && self.client_spoke
            && first == Some(&APPLICATION_DATA)
            && self.kept.len() + length <= WITHHELD
    }

    fn withholds(&self) -> bool {
        !self.kept.is_empty() && matches!(self.phase, Phase::Handshake | Phase::Over)
    }
}

impl<IO: AsyncWrite + Unpin> Gate<IO> {
    /// Writes what was withheld, if the socket has room for it.
    pub(super) fn poll_let_go(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.withholds() {
            let wrote = ready!(Pin::new(&mut self.io).poll_write(cx, &self.kept))?;
            self.let_go_of(wrote)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was withheld and, in the same call, this behind it; says how much of this was taken.
    fn poll_write_behind(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let pieces_of_it = slices.len().min(PIECES - 1);
        pieces[0] = IoSlice::new(&self.kept);
        pieces[1..=pieces_of_it].copy_from_slice(&slices[..pieces_of_it]);
        let wrote = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &pieces[..=pieces_of_it]))?;
        let withheld = self.kept.len();
        self.let_go_of(wrote.min(withheld))?;
        Poll::Ready(Ok(wrote.saturating_sub(withheld)))
    }

    fn let_go_of(&mut self, wrote: usize) -> io::Result<()> {
        if wrote == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if wrote == self.kept.len() {
            self.kept = Vec::new();
        } else {
            self.kept.drain(..wrote);
        }
        Ok(())
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
        let new = &buffer.filled()[before..];
        self.client_spoke |= !new.is_empty();
        if self.phase == Phase::Hello {
            self.kept.extend_from_slice(new);
            if self.kept.len() > FIRST_BYTES {
                self.phase = Phase::LongHello;
                self.kept = Vec::new();
            }
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gate<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_shut() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.is_last_word(slices, length) {
            self.kept.reserve_exact(length);
            slices.iter().for_each(|slice| self.kept.extend_from_slice(slice));
            return Poll::Ready(Ok(length));
        }
        self.client_spoke = false;
        while self.withholds() {
            match ready!(self.poll_write_behind(cx, slices))? {
                0 => {}
                wrote => return Poll::Ready(Ok(wrote)),
            }
        }
        poll_write_slices(Pin::new(&mut self.io), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_let_go(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
