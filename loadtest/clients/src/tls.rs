use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::Error;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// The server and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    /// The address of this machine to come from.
    from: Ipv4Addr,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, ca: &Path, http2: bool) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { address, config: Arc::new(config), from: Ipv4Addr::LOCALHOST })
    }

    /// The same from another loopback address: servers limit what one address may do.
    pub(crate) fn from(self, from: Ipv4Addr) -> Self {
        Self { from, ..self }
    }

    /// Connects and makes the handshake.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        let name = ServerName::DnsName("localhost".try_into().map_err(io::Error::other)?);
        let mut tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let unconnected = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&unconnected, &SocketAddr::from((self.from, 0)))?;
        connect(&unconnected, &self.address)?;
        let mut tcp = TcpStream::from(unconnected);
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(StreamOwned::new(tls, tcp))
    }
}
