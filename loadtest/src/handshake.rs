//! One handshake on a connection of its own, and its orderly end.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::failure::Failure;
use crate::target::Target;

/// How long the server may take to close a connection after the client's `close_notify`. Not part of any latency.
const CLOSING: Duration = Duration::from_secs(1);

/// A connection whose handshake is complete: chain, name and signature verified, our Finished sent.
pub(crate) struct Handshaken {
    stream: TlsStream<TcpStream>,
}

/// What was negotiated, for the report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Negotiated {
    pub(crate) version: String,
    pub(crate) cipher_suite: String,
    pub(crate) key_exchange: String,
}

/// Connects and handshakes, and asks for this name. `first` says that this client has no ticket yet.
pub(crate) async fn handshake(
    target: &Target,
    name: &ServerName<'static>,
    first: bool,
) -> Result<Handshaken, Failure> {
    let tcp = TcpStream::connect(target.address).await.map_err(Failure::Connect)?;
    tcp.set_nodelay(true).map_err(Failure::Io)?;
    // We close last (see `finish`), and by a reset: no port waits in TIME_WAIT, however long the load.
    tcp.set_zero_linger().map_err(Failure::Io)?;
    let stream = target.connector.connect(name.clone(), tcp).await.map_err(Failure::from_stream)?;
    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    match (resumed, target.resume && !first) {
        (true, false) => Err(Failure::Resumed),
        (false, true) => Err(Failure::NotResumed),
        _ => Ok(Handshaken { stream }),
    }
}

impl Handshaken {
    pub(crate) fn negotiated(&self) -> Negotiated {
        let connection = self.stream.get_ref().1;
        let name = |name: Option<String>| name.unwrap_or_else(|| "unknown".to_owned());
        Negotiated {
            version: name(connection.protocol_version().map(|version| format!("{version:?}"))),
            cipher_suite: name(
                connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
            ),
            key_exchange: name(
                connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
            ),
        }
    }

    /// Asks the site for `/` and reads the answer to its end.
    pub(crate) async fn request(&mut self, name: &ServerName<'_>) -> Result<(), Failure> {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nuser-agent: hsm-loadtest\r\nconnection: close\r\n\r\n",
            name.to_str()
        );
        self.stream.write_all(request.as_bytes()).await.map_err(Failure::from_stream)?;
        self.stream.flush().await.map_err(Failure::from_stream)?;
        let mut head = [0; 12];
        self.stream.read_exact(&mut head).await.map_err(Failure::from_stream)?;
        match &head {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', b'2' | b'3', ..] => {}
            [b'H', b'T', b'T', b'P', b'/', .., a, b, c] if head[9..].iter().all(u8::is_ascii_digit) => {
                let status = [*a, *b, *c];
                return Err(Failure::Http(Cow::Owned(String::from_utf8_lossy(&status).into_owned())));
            }
            _ => return Err(Failure::Http(Cow::Borrowed("not an HTTP/1 answer"))),
        }
        let mut body = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut body).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(Failure::from_stream(error)),
            }
        }
    }

    /// Sends `close_notify` and lets the server close first. A server that took offence at our last flight says so
    /// here, by an alert: that is a failed handshake although our side of it was complete.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        self.stream.get_mut().1.send_close_notify();
        match tokio::time::timeout(CLOSING, self.read_to_end()).await {
            Ok(Err(alert @ Failure::Alert(_))) => Err(alert),
            Ok(Err(other @ (Failure::Tls(_) | Failure::Certificate(_)))) => Err(other),
            // After `close_notify` it's the server's affair how it hangs up, and how soon.
            Ok(Ok(()) | Err(_)) | Err(_) => Ok(()),
        }
    }

    async fn read_to_end(&mut self) -> Result<(), Failure> {
        self.stream.flush().await.map_err(Failure::from_stream)?;
        // There is a ticket to come, perhaps, and the end. Thousands of tasks keep room for this.
        let mut rest = [0; 512];
        while self.stream.read(&mut rest).await.map_err(Failure::from_stream)? > 0 {}
        // The server's close_notify is in; its FIN may be behind it.
        let tcp = self.stream.get_mut().0;
        while read_plain(tcp, &mut rest).await? > 0 {}
        Ok(())
    }
}

async fn read_plain(tcp: &mut TcpStream, rest: &mut [u8]) -> Result<usize, Failure> {
    tcp.read(rest).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::Closed,
        _ => Failure::Io(error),
    })
}
