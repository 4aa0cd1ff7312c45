//! Byte buffers that are wiped: passwords, tokens and imported keys pass through them.

use std::io::{self, ErrorKind, Read, Write};

use keycore_wire::frame::{self, Frame, FrameError};
use keycore_wire::{MAX_RANDOM, Refusal, RefusalCode, Reply};
use zeroize::Zeroize;

/// What a peer sent and nobody has read yet. Grows only for a length that was checked.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// First size; most requests fit.
    const SMALL: usize = 2 * 1024;
    /// Size for a peer that pipelines, and the most that is kept when nothing is left to read.
    const USUAL: usize = 16 * 1024;

    /// The first frame, if it is complete, and the bytes that it takes.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if its length is above `limit` or makes no sense.
    pub(crate) fn first(&self, limit: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
        frame::split(self.unread(), limit)
    }

    /// Bytes that are not read yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Wipes and drops the first `count` unread bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        let end = (self.start + count).min(self.end);
        self.bytes[self.start..end].zeroize();
        self.start = end;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > Self::USUAL {
                self.bytes = Vec::new();
            }
        }
    }

    /// Reads once, as much as there is room for: at least one byte, at least the rest of an announced frame, whose
    /// length [`Inbox::first`] has checked. Returns the bytes read and whether the source may have more.
    pub(crate) fn read_from(&mut self, source: &mut impl Read) -> io::Result<(usize, bool)> {
        self.make_room();
        let room = &mut self.bytes[self.end..];
        let offered = room.len();
        let count = source.read(room)?;
        self.end += count;
        Ok((count, count == offered))
    }

    fn make_room(&mut self) {
        let unread = self.end - self.start;
        let announced = match self.unread().first_chunk::<4>() {
            Some(length) => (u32::from_be_bytes(*length) as usize).saturating_add(4),
            None => frame::HEADER,
        };
        // A buffer that the last read filled had too little room for what the peer has to say.
        let full = self.end == self.bytes.len() && unread > 0;
        let grown = if full { (self.bytes.len() * 2).min(Self::USUAL) } else { self.bytes.len() };
        let wanted = announced.max(grown).max(Self::SMALL).min(frame::MAX_FRAME.max(Self::USUAL));
        if wanted > self.bytes.len() {
            let mut larger = vec![0; wanted];
            larger[..unread].copy_from_slice(self.unread());
            self.bytes.zeroize();
            self.bytes = larger;
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.bytes[unread.max(self.start)..self.end].zeroize();
        }
        (self.start, self.end) = (0, unread);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Replies that the peer has not taken yet.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Room for any reply with a secret in it, so that encoding it moves nothing and leaves no copy.
    const ROOM: usize = MAX_RANDOM as usize + 512;
    /// The most that is kept when nothing is left to send.
    const USUAL: usize = 16 * 1024;

    /// Appends the reply to request `id`.
    pub(crate) fn push(&mut self, id: u32, result: &Result<Reply, Refusal>) {
        self.make_room();
        let start = self.bytes.len();
        self.append(id, result);
        if self.bytes.len() - start > frame::MAX_FRAME {
            tracing::error!("a reply above the longest frame; it is replaced by a refusal");
            self.bytes[start..].zeroize();
            self.bytes.truncate(start);
            self.append(id, &Err(Refusal::new(RefusalCode::Internal, "the reply is too long for a frame")));
        }
    }

    /// Bytes waiting for the peer.
    pub(crate) fn unsent(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Writes once. Returns whether the peer took something.
    pub(crate) fn write_to(&mut self, peer: &mut impl Write) -> io::Result<bool> {
        if self.unsent() == 0 {
            return Ok(false);
        }
        let count = match peer.write(&self.bytes[self.sent..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.bytes[self.sent..self.sent + count].zeroize();
        self.sent += count;
        if self.unsent() == 0 {
            self.sent = 0;
            self.bytes.clear();
            if self.bytes.capacity() > Self::USUAL {
                self.bytes = Vec::new();
            }
        }
        Ok(true)
    }

    fn append(&mut self, id: u32, result: &Result<Reply, Refusal>) {
        let appended: Result<(), std::convert::Infallible> = frame::append(&mut self.bytes, id, |body| {
            Reply::encode(result, body);
            Ok(())
        });
        match appended {
            Ok(()) => {}
        }
    }

    fn make_room(&mut self) {
        if self.bytes.capacity() - self.bytes.len() >= Self::ROOM {
            return;
        }
        let unsent = self.unsent();
        let mut larger = Vec::with_capacity((unsent + Self::ROOM).next_power_of_two());
        larger.extend_from_slice(&self.bytes[self.sent..]);
        self.bytes.zeroize();
        self.bytes = larger;
        self.sent = 0;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests;
