//! What tells a process to end: signals, and its standard input.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as BlockingStream;

use mio::net::UnixStream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A self-pipe that becomes readable once this process is to end.
///
/// SIGTERM and SIGINT end it, and so does SIGHUP, which a terminal that closes sends.
#[derive(Debug)]
pub(crate) struct Shutdown {
    receiver: UnixStream,
    sender: BlockingStream,
}

impl Shutdown {
    /// Takes over the signals.
    pub(crate) fn install() -> io::Result<Self> {
        let (receiver, sender) = signal_pipe(&[SIGTERM, SIGINT, SIGHUP])?;
        Ok(Self { receiver, sender })
    }

    /// From now on the end of standard input is a request to end as well.
    pub(crate) fn follow_stdin(&self) -> io::Result<()> {
        let mut sender = self.sender.try_clone()?;
        // A thread, because standard input may be a file or a terminal, which epoll or O_NONBLOCK would spoil.
        std::thread::Builder::new().name("lifeline".into()).spawn(move || {
            let mut ignored = [0; 256];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut ignored) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            let _pipe_is_full_of_requests = sender.write(&[0]);
        })?;
        Ok(())
    }

    /// What an event loop registers: readable means end.
    pub(crate) fn source(&mut self) -> &mut UnixStream {
        &mut self.receiver
    }
}

/// A pipe that becomes readable when one of `signals` arrives.
pub(crate) fn signal_pipe(signals: &[i32]) -> io::Result<(UnixStream, BlockingStream)> {
    let (receiver, sender) = BlockingStream::pair()?;
    receiver.set_nonblocking(true)?;
    // A full pipe must not block a signal handler.
    sender.set_nonblocking(true)?;
    for &signal in signals {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    Ok((UnixStream::from_std(receiver), sender))
}

/// Empties a self-pipe, so that its next byte is an event again.
pub(crate) fn drain(pipe: &mut UnixStream) {
    let mut ignored = [0; 64];
    while pipe.read(&mut ignored).is_ok_and(|count| count > 0) {}
}
