use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::relay::{Moved, Patience, relay};
use crate::upstream::Lease;

/// A client and an upstream that have switched protocols (RFC 9110, section 7.8): bytes go both ways unread.
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    /// Keeps the upstream connection until the tunnel ends.
    pub(super) lease: Lease,
}

impl Tunnel {
    /// Runs until both sides have closed, one breaks, or there is no more patience.
    pub(super) async fn run(self, patience: Patience) {
        let Self { client, upstream, lease } = self;
        let joined = tokio::time::timeout(patience.idle, async { tokio::try_join!(client, upstream) }).await;
        let ended = match joined {
            Ok(Ok((client, upstream))) => {
                relay(TokioIo::new(client), TokioIo::new(upstream), patience, &Moved::default()).await
            }
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = ended {
            debug!(upstream = %lease.upstream(), %error, "tunnel ended early");
        }
    }
}
