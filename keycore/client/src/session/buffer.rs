//! The two buffers of a connection. Both wipe what was secret in them.

use core::ops::Range;

use keycore_wire::frame::{self, FrameError, HEADER};
use zeroize::Zeroize;

/// Where a buffer starts: enough for some hundred signatures.
const INITIAL: usize = 16 * 1024;

/// What was read and is not taken yet.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; INITIAL], start: 0, end: 0 }
    }

    /// Free space behind what was read; grows up to `limit`, the longest frame.
    pub(super) fn space(&mut self, limit: usize) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.end == self.bytes.len() {
                let longer = (self.bytes.len() * 2).min(limit.max(INITIAL));
                self.bytes.resize(longer, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.bytes.len());
    }

    /// Takes the next frame: its request id, and where its body is until the next call of [`Inbox::space`].
    pub(super) fn next_frame(&mut self, limit: usize) -> Result<Option<(u32, Range<usize>)>, FrameError> {
        let Some((frame, took)) = frame::split(&self.bytes[self.start..self.end], limit)? else {
            return Ok(None);
        };
        let id = frame.id;
        let body = self.start + HEADER..self.start + took;
        self.start += took;
        Ok(Some((id, body)))
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    pub(super) fn wipe(&mut self, range: Range<usize>) {
        if let Some(bytes) = self.bytes.get_mut(range) {
            bytes.zeroize();
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// What is to be written.
pub(super) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// There was a secret in it since it was empty.
    secret: bool,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(INITIAL), written: 0, secret: false }
    }

    pub(super) fn frame(&mut self, id: u32, body: &[u8], secret: bool) {
        self.secret |= secret;
        self.reserve(HEADER + body.len());
        let appended: Result<(), core::convert::Infallible> = frame::append(&mut self.bytes, id, |out| {
            out.extend_from_slice(body);
            Ok(())
        });
        match appended {
            Ok(()) => {}
        }
    }

    pub(super) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written = (self.written + bytes).min(self.bytes.len());
        if self.written == self.bytes.len() {
            if self.secret {
                self.bytes.zeroize();
                self.secret = false;
            }
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// Makes room without leaving a copy of a secret behind in freed memory.
    fn reserve(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        let unwritten = self.bytes.len() - self.written;
        let mut bytes = Vec::with_capacity((unwritten + more).next_power_of_two().max(INITIAL));
        bytes.extend_from_slice(&self.bytes[self.written..]);
        let mut old = core::mem::replace(&mut self.bytes, bytes);
        self.written = 0;
        if self.secret {
            old.zeroize();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if self.secret {
            self.bytes.zeroize();
        }
    }
}
