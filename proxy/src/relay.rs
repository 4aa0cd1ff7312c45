//! Bytes that go both ways unread.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until};

use crate::shutdown::Shutdown;

/// Bytes on their way in each direction.
const BUFFER: usize = 16 * 1024;

/// How many bytes went which way.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) from_client: Cell<u64>,
    pub(crate) to_client: Cell<u64>,
}

/// When it ends although both sides are still there.
pub(crate) struct Patience {
    /// How long nothing may move.
    pub(crate) idle: Duration,
    /// How long it goes on once `retired` is requested: who speaks can't be asked to finish.
    pub(crate) drain: Duration,
    pub(crate) retired: Shutdown,
}

/// Passes on what either side sends until both have closed. Who closes its direction only still gets the rest of the other.
///
/// # Errors
///
/// The first that breaks; `TimedOut` if it has lost its patience.
pub(crate) async fn relay(
    client: impl AsyncRead + AsyncWrite,
    server: impl AsyncRead + AsyncWrite,
    patience: Patience,
    moved: &Moved,
) -> io::Result<()> {
    let Patience { idle, drain, mut retired } = patience;
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let last = Cell::new(Instant::now());
    let mut copying = pin!(async {
        tokio::try_join!(
            copy(from_client, to_server, &last, &moved.from_client),
            copy(from_server, to_client, &last, &moved.to_client)
        )
    });
    let mut timer = pin!(sleep_until(last.get() + idle));
    let mut cut_off = pin!(async {
        retired.requested().await;
        sleep(drain).await;
    });
    loop {
        tokio::select! {
            biased;
            ended = copying.as_mut() => return ended.map(|_| ()),
            () = timer.as_mut() => {
                let deadline = last.get() + idle;
                if deadline <= Instant::now() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                timer.as_mut().reset(deadline);
            }
            () = cut_off.as_mut() => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Copies until `from` ends, then closes that direction only.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Cell<Instant>,
    moved: &Cell<u64>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        last.set(Instant::now());
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        moved.set(moved.get() + count as u64);
        last.set(Instant::now());
    }
}
