use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::client_identity::ClientIdentity;
use crate::proxy_protocol::{self, Ends};
use crate::traces::SpanRef;

/// What is known of a client's connection once its handshake is done.
#[derive(Debug, Clone)]
pub struct ClientConnection {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// What it speaks, by ALPN (RFC 7301); HTTP/1.1 if it negotiated nothing.
    pub protocol: Protocol,
    /// The name that it asked for in SNI (RFC 6066), in lower case.
    pub sni: Option<Arc<str>>,
    /// How the handshake went.
    pub handshake: Handshake,
    /// Who the client is, on a site that asks for clients' certificates.
    pub identity: Option<ClientIdentity>,
    /// What its handshake is called in traces, if it is told there.
    pub(crate) traced: Option<Box<SpanRef>>,
}

impl ClientConnection {
    /// What tells a server of an upstream whose connection it gets: a PROXY header.
    pub(crate) fn header(&self) -> io::Result<Vec<u8>> {
        let alpn: &[u8] = match self.protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        };
        let ends = Ends { client: self.remote, server: self.local };
        proxy_protocol::header_of(ends, self.sni.as_deref(), Some(alpn))
    }

    /// A connection in plain text: all that TLS would tell is empty.
    pub(crate) fn plain(remote: SocketAddr, local: SocketAddr) -> Self {
        let handshake =
            Handshake { version: "", cipher_suite: "", group: "", resumed: false, signed_by: None };
        Self { remote, local, protocol: Protocol::Http1, sni: None, handshake, identity: None, traced: None }
    }
}

/// The version of HTTP on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1, or 1.0 (RFC 9112).
    Http1,
    /// HTTP/2 (RFC 9113).
    Http2,
}

/// How a TLS handshake went. The names are those of the IANA registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite, like `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: &'static str,
    /// The key exchange group, like `X25519MLKEM768`; empty if there was no key exchange.
    pub group: &'static str,
    /// Whether the session was resumed, so that nothing was signed.
    pub resumed: bool,
    /// Who signed it, as the key's owner calls itself: an engine's socket. `None` if nothing was signed, or the
    /// key source does not say.
    pub signed_by: Option<Arc<str>>,
}
