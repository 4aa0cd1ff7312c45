//! The bytes' way to an engine: a Unix socket, or TLS over TCP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use crate::tls::ClientTls;

/// A connection that blocks.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects; waits at most so long if the engine's backlog is full, as a frozen engine's is after a while.
    pub(crate) fn connect_unix(path: &Path, timeout: Duration) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Zero would mean for ever.
        let timeout = timeout.max(Duration::from_millis(1));
        // unix(7) says nothing of it, but connect() waits for room in the backlog as long as a send may take.
        set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::Unix(UnixStream::from(socket)))
    }

    /// Connects to the first of the host's addresses that answers, and shakes hands.
    pub(crate) fn connect_tcp(
        host: &ServerName<'static>,
        port: u16,
        tls: &ClientTls,
        timeout: Duration,
    ) -> io::Result<Self> {
        let deadline = Instant::now() + timeout;
        let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in (&*host.to_str(), port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(socket) => return shake_hands(socket, host, tls, deadline),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.set_read_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)),
        }
    }

    pub(crate) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.set_write_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_write_timeout(Some(timeout)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Shakes hands step by step, so that an engine that sends byte by byte does not prolong the deadline.
fn shake_hands(
    mut socket: TcpStream,
    host: &ServerName<'static>,
    tls: &ClientTls,
    deadline: Instant,
) -> io::Result<Stream> {
    let mut connection = ClientConnection::new(Arc::clone(&tls.0), host.clone()).map_err(io::Error::other)?;
    socket.set_nodelay(true)?;
    while connection.is_handshaking() {
        let left = left(deadline)?;
        socket.set_read_timeout(Some(left))?;
        socket.set_write_timeout(Some(left))?;
        let moved = if connection.wants_write() {
            connection.write_tls(&mut socket)
        } else {
            connection.read_tls(&mut socket)
        };
        match moved {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                if let Err(error) = connection.process_new_packets() {
                    // The alert that tells the engine why; whether it arrives is its affair.
                    let _told = connection.write_tls(&mut socket);
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A connection of a tokio runtime.
pub(crate) enum AsyncStream {
    Unix(tokio::net::UnixStream),
    Tls(Box<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>),
}

impl AsyncStream {
    pub(crate) async fn connect_unix(path: &Path) -> io::Result<Self> {
        tokio::net::UnixStream::connect(path).await.map(Self::Unix)
    }

    pub(crate) async fn connect_tcp(
        host: &ServerName<'static>,
        port: u16,
        tls: &ClientTls,
    ) -> io::Result<Self> {
        let socket = tokio::net::TcpStream::connect((&*host.to_str(), port)).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&tls.0));
        connector.connect(host.clone(), socket).await.map(|stream| Self::Tls(Box::new(stream)))
    }
}

impl AsyncRead for AsyncStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for AsyncStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
