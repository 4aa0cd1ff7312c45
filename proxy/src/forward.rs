//! The HTTP half of a worker: takes a client's connection after its TLS handshake and forwards its requests to the
//! upstreams of their sites.
//!
//! Everything here stays on one thread: `Rc`, no locks, tasks by `spawn_local`. Bodies stream both ways and are never
//! collected; what is in memory for a connection is bounded by the constants below.

mod activity;
mod drive;
mod exchange;
mod flood;
mod frames;
mod inspect;
mod metered;
mod redirect;
mod rest;
mod streams;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod tunnel;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::clients::Clients;
use crate::compression::Room;
use crate::config::{Limits, Timeouts};
use crate::connection::{ClientConnection, Protocol};
use crate::headers::Forwarding;
use crate::journal::Journal;
use crate::relay;
use crate::shutdown::Shutdown;
use crate::sites::Sites;
use crate::upstream::Upstreams;

pub(crate) use activity::InFlight;

use activity::Activity;
use drive::{Commands, Patience, drive};
use flood::FloodGuard;
use inspect::Inspector;
use metered::{Metered, Watch};
use rest::Http1;
use streams::StreamExecutor;
use tunnel::Tunnel;

/// Largest piece that HTTP/1 reads or writes at once; with the header limit, what a connection may hold in memory.
const HTTP1_BUFFER: usize = 128 * 1024;

/// What an HTTP/2 client may send of one request's body before the upstream has taken it.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same for all requests of one connection together.
const CONNECTION_WINDOW: u32 = 2 << 20;

/// What waits for an HTTP/2 client that reads slowly, per stream.
const SEND_BUFFER: usize = 128 * 1024;

/// Streams that a client opened and reset before they were looked at (CVE-2023-44487, "rapid reset").
const PENDING_RESETS: usize = 32;

/// Streams that were reset because of the client's own errors (CVE-2025-8671, "made you reset").
const ERROR_RESETS: usize = 128;

/// Forwards the requests of one worker's connections; owns the worker's upstream connections.
pub(crate) struct Forwarder {
    http1: http1::Builder,
    http2: http2::Builder<StreamExecutor>,
    upstreams: Upstreams,
    compressors: Room,
    timeouts: Timeouts,
    longest_line: usize,
    clients: Arc<Clients>,
    limits: Limits,
}

/// One client's connection, shared by its exchanges.
struct Client {
    forwarder: Rc<Forwarder>,
    connection: Rc<ClientConnection>,
    sites: Arc<Sites>,
    journal: Rc<Journal>,
    activity: Arc<Activity>,
    role: Role,
    forwarding: Forwarding,
    /// Set by the exchange that switched protocols.
    tunnel: RefCell<Option<Tunnel>>,
}

/// What becomes of a connection's requests.
#[derive(Clone, Copy)]
enum Role {
    /// They go to the upstreams of their sites.
    Forward,
    /// They came in plain text: their clients shall come again over HTTPS, on this port.
    Redirect { port: u16 },
}

impl Forwarder {
    /// A forwarder without any connection yet.
    pub(crate) fn new(limits: &Limits, timeouts: &Timeouts, clients: &Arc<Clients>) -> Self {
        let longest_line = limits.header_bytes.max(HTTP1_BUFFER);
        let mut http1 = http1::Builder::new();
        http1
            .half_close(false) // a client that has closed is gone: its request ends
            .max_headers(limits.headers)
            .max_header_size(limits.header_bytes)
            .max_buf_size(longest_line);

        // Longer than every timer of an exchange, so that those give the reason if they can.
        let stall = timeouts.stall.max(timeouts.upstream_response) + drive::GRACE;
        let mut http2 = http2::Builder::new(StreamExecutor::new(stall));
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS)
            .keep_alive_interval(timeouts.idle / 2)
            .keep_alive_timeout(timeouts.idle / 2);

        let upstreams = Upstreams::new(limits, timeouts);
        Self {
            http1,
            http2,
            upstreams,
            compressors: Room::default(),
            timeouts: timeouts.clone(),
            longest_line,
            clients: Arc::clone(clients),
            limits: limits.clone(),
        }
    }

    /// Serves one TLS connection after its handshake until it ends: HTTP/1.1 or HTTP/2, as it negotiated.
    ///
    /// When `shutdown` is requested, running requests are finished and no further ones are taken; that may take as long as
    /// `timeouts.drain`, or until the caller drops the future. To be called inside a `LocalSet`.
    pub(crate) async fn serve<IO>(
        self: &Rc<Self>,
        io: IO,
        connection: Rc<ClientConnection>,
        sites: Arc<Sites>,
        journal: Rc<Journal>,
        shutdown: Shutdown,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_as(Role::Forward, io, connection, sites, journal, shutdown).await;
    }

    /// The same for a connection in plain HTTP/1.1, whose clients are sent to HTTPS on `port`.
    pub(crate) async fn redirect<IO>(
        self: &Rc<Self>,
        io: IO,
        connection: Rc<ClientConnection>,
        sites: Arc<Sites>,
        journal: Rc<Journal>,
        port: u16,
        shutdown: Shutdown,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_as(Role::Redirect { port }, io, connection, sites, journal, shutdown).await;
    }

    async fn serve_as<IO>(
        self: &Rc<Self>,
        role: Role,
        io: IO,
        connection: Rc<ClientConnection>,
        sites: Arc<Sites>,
        journal: Rc<Journal>,
        shutdown: Shutdown,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let protocol = connection.protocol;
        let retired = shutdown.clone();
        let activity = Arc::new(Activity::new());
        let client = Rc::new(Client {
            forwarder: Rc::clone(self),
            forwarding: Forwarding::of(&connection),
            activity: Arc::clone(&activity),
            role,
            connection,
            sites,
            journal,
            tunnel: RefCell::new(None),
        });
        let patience = Patience::new(&self.timeouts, protocol);
        let watch = match protocol {
            Protocol::Http1 => Watch::Http1(Inspector::new(self.longest_line)),
            Protocol::Http2 => Watch::Http2(FloodGuard::new(self.limits.http2_resets)),
        };
        let io = Metered::new(io, Arc::clone(&activity), watch);
        let service = service_fn({
            let client = Rc::clone(&client);
            move |request| exchange::exchange(Rc::clone(&client), request)
        });

        let ended = match protocol {
            Protocol::Http1 => {
                let http = Box::pin(Http1::new(&self.http1, io, service, &activity));
                let commands = Commands { close: Http1::close, rest: Http1::rest };
                drive(http, commands, &activity, &patience, shutdown).await
            }
            Protocol::Http2 => {
                let http = Box::pin(self.http2.serve_connection(TokioIo::new(io), service));
                let commands = Commands { close: http2::Connection::graceful_shutdown, rest: stay_awake };
                drive(http, commands, &activity, &patience, shutdown).await
            }
        };
        if let Some(abuse) = activity.abuse() {
            client.journal.abused(client.connection.remote, abuse);
            self.clients.abused(client.connection.remote.ip(), abuse, &self.limits);
        }
        if let Err(reason) = ended {
            debug!(client = %client.connection.remote, %reason, "connection ended early");
        }
        self.upstreams.forget(&client.connection);
        let tunnel = client.tunnel.take();
        if let Some(tunnel) = tunnel {
            let Timeouts { idle, drain, .. } = self.timeouts;
            // On the heap, since few connections become one.
            Box::pin(tunnel.run(relay::Patience { idle, drain, retired })).await;
        }
    }
}

/// hyper gives no connection of HTTP/2 back.
fn stay_awake<C>(_connection: Pin<&mut C>) {}
