use std::io;
use std::net::SocketAddr;

use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;
use tracing::debug;

use super::Settings;
use super::resolve::Addresses;
use super::stream::Stream;
use crate::body::RequestBody;
use crate::config::{UpstreamPlace, UpstreamUrl};
use crate::respond::Failure;

/// One open connection: the way to send requests over it, and the task that moves its bytes.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    /// Where it leads, if over TCP.
    pub(super) address: Option<SocketAddr>,
    task: AbortHandle,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// Connects to the first of the upstream's addresses that takes it, all within the connect timeout; and occupies
    /// `room` as long as it lives.
    pub(super) async fn open(
        upstream: &UpstreamUrl,
        addresses: &Addresses,
        settings: &Settings,
        room: OwnedSemaphorePermit,
    ) -> Result<Self, Failure> {
        let connected = timeout(settings.connect, connect(upstream, addresses)).await;
        let (stream, address) = connected.map_err(|_| Failure::ConnectTimeout(settings.connect))??;
        let (sender, http) =
            settings.http.handshake(TokioIo::new(stream)).await.map_err(Failure::UpstreamLost)?;
        let upstream = upstream.clone();
        let task = spawn_local(async move {
            if let Err(error) = http.with_upgrades().await {
                debug!(%upstream, %error, "upstream connection ended");
            }
        });
        Ok(Self { sender, address, task: task.abort_handle(), _room: room })
    }
}

impl Drop for Connection {
    /// Closes it at once: a request that is half sent, or a response that nobody reads, must not go on.
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(
    upstream: &UpstreamUrl,
    addresses: &Addresses,
) -> Result<(Stream, Option<SocketAddr>), Failure> {
    match upstream.place() {
        UpstreamPlace::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(Failure::Unreachable)?;
            Ok((Stream::Unix(stream), None))
        }
        UpstreamPlace::Tcp { authority, port } => {
            let (stream, address) = connect_tcp(&addresses.find(authority, *port).await?).await?;
            Ok((Stream::Tcp(stream), Some(address)))
        }
    }
}

async fn connect_tcp(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut last = Failure::NoAddress(io::ErrorKind::NotFound.into());
    for &address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it, small requests wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                return Ok((stream, address));
            }
            Err(error) => last = Failure::Unreachable(error),
        }
    }
    Err(last)
}
