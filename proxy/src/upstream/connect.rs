use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use http::{Request, StatusCode};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Settings;
use super::group::Server;
use super::resolve::Addresses;
use super::send::Sent;
use super::stream::{Busy, Resettable, Stream};
use crate::body::RequestBody;
use crate::config::{UpstreamPlace, UpstreamScheme};
use crate::connection::ClientConnection;
use crate::proxy_protocol::own_header;
use crate::respond::Failure;

/// Requests at once on one HTTP/2 connection; servers that allow fewer hold the others back.
const STREAMS: u32 = 100;

/// One open connection: the way to send requests over it, and the task that moves its bytes.
pub(super) struct Connection {
    sender: Sender,
    open: Rc<Open>,
}

/// What requests are given to.
enum Sender {
    Http1(http1::SendRequest<RequestBody>, Busy),
    /// Takes many at once: each has a clone.
    Http2(http2::SendRequest<RequestBody>),
}

/// The connection as such. Closes with the last who has it.
struct Open {
    /// Where it leads, if over TCP.
    address: Option<SocketAddr>,
    task: AbortHandle,
    /// When the last request on it ended.
    used: Cell<Instant>,
    /// The only client that it serves, if the server was told of it.
    client: Option<Weak<ClientConnection>>,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// Connects to the first of the server's addresses that takes it, all within the connect timeout; and occupies
    /// `room` as long as it lives. `only_http1` is for what HTTP/2 can't do. A server that wants to know is told of
    /// `client`; none is this proxy itself.
    pub(super) async fn open(
        server: &Server,
        addresses: &Addresses,
        settings: &Settings,
        client: Option<&Rc<ClientConnection>>,
        room: OwnedSemaphorePermit,
        only_http1: bool,
    ) -> Result<Self, Failure> {
        if only_http1 && server.url.scheme() == UpstreamScheme::H2c {
            return Err(Failure::NoUpgrade);
        }
        let header = match (server.options.introduces, client) {
            (false, _) => Vec::new(),
            (true, Some(client)) => client.header().map_err(Failure::Unreachable)?,
            (true, None) => own_header().map_err(Failure::Unreachable)?,
        };
        let connected = timeout(settings.connect, connect(server, addresses, &header, only_http1)).await;
        let (stream, address) = connected.map_err(|_| Failure::ConnectTimeout(settings.connect))??;
        let is_http2 = server.url.scheme() == UpstreamScheme::H2c || stream.has_chosen_http2();
        let busy = Busy::default();
        let (io, url) = (TokioIo::new(Resettable::new(stream, busy.clone())), server.url.clone());
        let (sender, task) = if is_http2 {
            if only_http1 {
                return Err(Failure::NoUpgrade);
            }
            let (sender, http) = settings.http2.handshake(io).await.map_err(Failure::UpstreamLost)?;
            let task = spawn_local(async move {
                if let Err(error) = http.await {
                    debug!(upstream = %url, %error, "upstream connection ended");
                }
            });
            (Sender::Http2(sender), task)
        } else {
            let (sender, http) = settings.http1.handshake(io).await.map_err(Failure::UpstreamLost)?;
            let task = spawn_local(async move {
                if let Err(error) = http.with_upgrades().await {
                    debug!(upstream = %url, %error, "upstream connection ended");
                }
            });
            (Sender::Http1(sender, busy), task)
        };
        let used = Cell::new(Instant::now());
        let client = client.filter(|_| server.options.introduces).map(Rc::downgrade);
        let open = Open { address, task: task.abort_handle(), used, client, _room: room };
        Ok(Self { sender, open: Rc::new(open) })
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender, _) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Whether it takes a request now.
    pub(super) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender, _) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready() && self.streams() < STREAMS as usize,
        }
    }

    /// Whether requests of this client may go over it.
    pub(super) fn serves(&self, client: &Rc<ClientConnection>) -> bool {
        self.open.client.as_ref().is_none_or(|only| only.as_ptr() == Rc::as_ptr(client))
    }

    /// Whether the only client that it serves is gone.
    pub(super) fn is_widowed(&self) -> bool {
        self.open.client.as_ref().is_some_and(|only| only.strong_count() == 0)
    }

    /// Whether it is HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// The same connection for another request; `None` if it takes one at a time.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(..) => None,
            Sender::Http2(sender) => {
                Some(Self { sender: Sender::Http2(sender.clone()), open: Rc::clone(&self.open) })
            }
        }
    }

    /// Requests on it, if [shared](Self::share).
    pub(super) fn streams(&self) -> usize {
        // One is the pool's.
        Rc::strong_count(&self.open) - 1
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.open.address
    }

    pub(super) fn used(&self) -> Instant {
        self.open.used.get()
    }

    /// Gives a request to it, which must be [framed](super::framing) for its version. Until it [rests](Self::rests), dropping the
    /// connection resets it, if it is one of HTTP/1.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        match &mut self.sender {
            Sender::Http1(sender, busy) => {
                busy.set(true);
                let sent = sender.try_send_request(request).await;
                if matches!(&sent, Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS) {
                    busy.set(false);
                }
                sent
            }
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    }

    /// The response to what was sent has been read to its end.
    pub(super) fn rests(&self) {
        if let Sender::Http1(_, busy) = &self.sender {
            busy.set(false);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.used.set(Instant::now());
    }
}

impl Drop for Open {
    /// Closes it at once: a request that is half sent, or a response that nobody reads, must not go on.
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(
    server: &Server,
    addresses: &Addresses,
    header: &[u8],
    only_http1: bool,
) -> Result<(Stream, Option<SocketAddr>), Failure> {
    let (stream, address) = connect_to(server.url.place(), addresses, header).await?;
    let stream = match (stream, &server.tls, server.url.place()) {
        (Stream::Tcp(stream), Some(tls), UpstreamPlace::Tcp { authority, .. }) => {
            let tls = tls.connect(authority.host(), stream, only_http1).await;
            Stream::Tls(Box::new(tls.map_err(|error| match error {
                // That it has no HTTP/1.1 is no fault of its.
                error if only_http1 && has_no_such_protocol(&error) => Failure::NoUpgrade,
                error => Failure::UpstreamTls(error),
            })?))
        }
        (stream, ..) => stream,
    };
    Ok((stream, address))
}

/// The bytes of a connection to this place, at whichever of its addresses takes it, which has got `header` first: before
/// TLS, since it is for whoever accepts the connection.
pub(crate) async fn connect_to(
    place: &UpstreamPlace,
    addresses: &Addresses,
    header: &[u8],
) -> Result<(Stream, Option<SocketAddr>), Failure> {
    let (mut stream, address) = match place {
        UpstreamPlace::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(Failure::Unreachable)?;
            (Stream::Unix(stream), None)
        }
        UpstreamPlace::Tcp { authority, port } => {
            let (stream, address) = connect_tcp(&addresses.find(authority, *port).await?).await?;
            (Stream::Tcp(stream), Some(address))
        }
    };
    stream.write_all(header).await.map_err(Failure::Unreachable)?;
    Ok((stream, address))
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

/// Whether a handshake failed because the server speaks nothing of what it was offered (RFC 7301, section 3.2).
fn has_no_such_protocol(error: &io::Error) -> bool {
    use rustls::AlertDescription::NoApplicationProtocol;
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::AlertReceived(NoApplicationProtocol)))
}
