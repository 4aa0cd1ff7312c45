//! The bytes' way to a client: a Unix socket, or TLS.

use std::io;

use mio::event::Source;
use mio::net::UnixStream;

use super::buffer::{Inbox, Outbox};
use crate::tls::TlsStream;

/// A socket that never blocks.
pub(crate) enum Stream {
    /// A process of this machine.
    Unix(UnixStream),
    /// A client that has shaken hands.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// What the event loop registers.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Unix(socket) => socket,
            Self::Tls(stream) => stream.source(),
        }
    }

    /// Reads once. Returns the bytes read and whether there may be more.
    pub(super) fn receive(&mut self, inbox: &mut Inbox) -> io::Result<(usize, bool)> {
        match self {
            Self::Unix(socket) => inbox.read_from(socket),
            // A short read says nothing: what follows may be in the next record, which is here already.
            Self::Tls(stream) => inbox.read_from(stream).map(|(count, _)| (count, true)),
        }
    }

    /// Writes. Returns whether the peer took something.
    pub(super) fn send(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        match self {
            Self::Unix(socket) => outbox.write_to(socket),
            Self::Tls(stream) => {
                let mut progress = stream.push()?;
                // One write's worth is encrypted ahead of the socket, and no more.
                while !stream.wants_write() && outbox.write_to(&mut stream.writer())? {
                    progress |= stream.push()?;
                }
                Ok(progress)
            }
        }
    }

    /// Whether something that was taken from the outbox waits for room in the socket.
    pub(super) fn wants_write(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tls(stream) => stream.wants_write(),
        }
    }

    /// Says goodbye, if there is a way to.
    pub(super) fn close(&mut self) {
        if let Self::Tls(stream) = self {
            stream.close();
        }
    }
}
