use std::io;
use std::net::{IpAddr, SocketAddr};

use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;
use tracing::debug;

use super::Settings;
use crate::body::RequestBody;
use crate::config::UpstreamUrl;
use crate::respond::Failure;

/// One open connection: the way to send requests over it, and the task that moves its bytes.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    task: AbortHandle,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// Connects to the first of the upstream's addresses that takes it, all within the connect timeout; and occupies
    /// `room` as long as it lives.
    pub(super) async fn open(
        upstream: &UpstreamUrl,
        settings: &Settings,
        room: OwnedSemaphorePermit,
    ) -> Result<Self, Failure> {
        let stream = timeout(settings.connect, connect(upstream))
            .await
            .map_err(|_| Failure::ConnectTimeout(settings.connect))??;
        // Without it, small requests wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let (sender, http) =
            settings.http.handshake(TokioIo::new(stream)).await.map_err(Failure::UpstreamLost)?;
        let upstream = upstream.clone();
        let task = spawn_local(async move {
            if let Err(error) = http.with_upgrades().await {
                debug!(%upstream, %error, "upstream connection ended");
            }
        });
        Ok(Self { sender, task: task.abort_handle(), _room: room })
    }
}

impl Drop for Connection {
    /// Closes it at once: a request that is half sent, or a response that nobody reads, must not go on.
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(upstream: &UpstreamUrl) -> Result<TcpStream, Failure> {
    if let Ok(address) = upstream.host().parse::<IpAddr>() {
        let address = SocketAddr::new(address, upstream.port());
        return TcpStream::connect(address).await.map_err(Failure::Unreachable);
    }
    let addresses =
        tokio::net::lookup_host((upstream.host(), upstream.port())).await.map_err(Failure::NoAddress)?;
    let mut last = Failure::NoAddress(io::ErrorKind::NotFound.into());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Failure::Unreachable(error),
        }
    }
    Err(last)
}
