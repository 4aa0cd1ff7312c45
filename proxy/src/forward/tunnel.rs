use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::upstream::Lease;

/// Bytes on their way in each direction.
const BUFFER: usize = 16 * 1024;

/// A client and an upstream that have switched protocols (RFC 9110, section 7.8): bytes go both ways unread.
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    /// Keeps the upstream connection until the tunnel ends.
    pub(super) lease: Lease,
}

impl Tunnel {
    /// Runs until both sides have closed, one breaks, or nothing has moved for `idle`.
    pub(super) async fn run(self, idle: Duration) {
        let Self { client, upstream, lease } = self;
        let joined = tokio::time::timeout(idle, async { tokio::try_join!(client, upstream) }).await;
        let ended = match joined {
            Ok(Ok((client, upstream))) => copy_both_ways(client, upstream, idle).await,
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = ended {
            debug!(upstream = %lease.upstream(), %error, "tunnel ended early");
        }
    }
}

async fn copy_both_ways(client: Upgraded, upstream: Upgraded, idle: Duration) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_upstream, to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let moved = Cell::new(Instant::now());
    let mut copying = pin!(async {
        tokio::try_join!(copy(from_client, to_upstream, &moved), copy(from_upstream, to_client, &moved))
    });
    let mut timer = pin!(sleep_until(moved.get() + idle));
    loop {
        tokio::select! {
            biased;
            ended = copying.as_mut() => return ended.map(|_| ()),
            () = timer.as_mut() => {
                let deadline = moved.get() + idle;
                if deadline <= Instant::now() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                timer.as_mut().reset(deadline);
            }
        }
    }
}

/// Copies until `from` ends, then closes that direction only.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        moved.set(Instant::now());
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        moved.set(Instant::now());
    }
}
