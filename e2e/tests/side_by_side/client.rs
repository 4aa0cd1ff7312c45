use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// How long a front may say nothing before the request counts as waiting for more.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Sends raw bytes over TLS, without ALPN: HTTP/1.
pub(crate) struct Client {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, ca: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { address, config: Arc::new(config) }
    }

    /// The statuses of all responses that come back until the front closes, or says nothing more.
    pub(crate) fn send(&self, bytes: &[u8]) -> Vec<String> {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = "localhost".try_into().unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, socket);
        // A front that refuses may close before it has read everything.
        let _closed = stream.write_all(bytes).and_then(|()| stream.flush());
        let mut answer = Vec::new();
        let mut buffer = [0; 16 * 1024];
        let waits = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break false,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
            }
        };
        let mut statuses = statuses(&answer);
        if waits {
            statuses.push("waits".to_owned());
        }
        statuses
    }
}

/// Every response begins a line with its version; the recorder's bodies do not.
fn statuses(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    let heads = text.split("HTTP/1.").skip(1).filter_map(|head| head.get(2..5));
    heads.map(str::to_owned).collect()
}
