use std::ffi::OsString;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{Attempt, END, ENVIRONMENT, LISTENER, READY};

/// How long the new process may take. It waits for engines for less.
const PATIENCE: Duration = Duration::from_secs(60);

/// How this process was started, to be repeated.
#[derive(Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

/// Why no other process took over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("can't start {}: {source}", .path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("the new process took no sockets: {0}")]
    Sockets(io::Error),
    #[error("the new process did not become ready: {0}")]
    NotReady(String),
    #[error("this process is told to end")]
    CalledOff,
}

impl Program {
    /// To be called early: once the file has been replaced, the system does not tell its name any more.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Starts it and gives it these sockets; blocks until it accepts connections, and returns its process id.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`]; the new process is gone then.
    pub(crate) fn take_over(
        &self,
        listeners: &[TcpListener],
        attempt: &Attempt,
    ) -> Result<u32, UpgradeError> {
        let failed = |source| UpgradeError::Start { path: self.path.clone(), source };
        let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .env(ENVIRONMENT, "1")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .map_err(failed)?;
        let ready = if attempt.started(&child) {
            send_all(&ours, listeners)
                .map_err(UpgradeError::Sockets)
                .and_then(|()| await_ready(&mut ours, &mut child, attempt))
        } else {
            Err(UpgradeError::CalledOff)
        };
        if ready.is_err() {
            attempt.failed();
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        ready.map(|()| child.id())
    }
}

fn send_all(socket: &UnixStream, listeners: &[TcpListener]) -> io::Result<()> {
    socket.set_write_timeout(Some(PATIENCE))?;
    for listener in listeners {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(socket, &[IoSlice::new(&[LISTENER])], &mut control, SendFlags::NOSIGNAL)?;
    }
    sendmsg(socket, &[IoSlice::new(&[END])], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?;
    Ok(())
}

fn await_ready(socket: &mut UnixStream, child: &mut Child, attempt: &Attempt) -> Result<(), UpgradeError> {
    let mut byte = [0];
    let read = socket.set_read_timeout(Some(PATIENCE)).and_then(|()| socket.read(&mut byte));
    let reason = match read {
        Ok(1) if byte[0] == READY => return Ok(()),
        Ok(0) => {
            attempt.failed();
            match child.wait() {
                Ok(status) => format!("it ended with {status}; its log lines say why"),
                Err(error) => error.to_string(),
            }
        }
        Ok(_) => "it does not speak this protocol".to_owned(),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            format!("it took more than {} s", PATIENCE.as_secs())
        }
        Err(error) => error.to_string(),
    };
    Err(UpgradeError::NotReady(reason))
}
