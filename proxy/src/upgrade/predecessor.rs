use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{END, LISTENER, READY};

/// The process that this one takes over from, at the other end of standard input.
pub(crate) struct Predecessor(());

impl Predecessor {
    /// Takes its listening sockets.
    pub(super) fn greet() -> io::Result<(Self, Vec<TcpListener>)> {
        let mut listeners = Vec::new();
        loop {
            match receive()? {
                (LISTENER, Some(socket)) => listeners.push(TcpListener::from(socket)),
                (END, None) => return Ok((Self(()), listeners)),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Tells it that connections are accepted here from now on.
    pub(crate) fn ready(self) -> io::Result<()> {
        rustix::io::write(io::stdin(), &[READY])?;
        Ok(())
    }
}

/// A byte, and the descriptor that comes with it.
fn receive() -> io::Result<(u8, Option<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(io::stdin(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((byte[0], descriptor))
}
