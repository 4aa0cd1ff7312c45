//! What the proxy speaks in TLS, and with which certificate.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::sites::Sites;

/// The one configuration of the process, shared by all workers; their session tickets are good on each of them.
///
/// TLS 1.2 and 1.3 are always both on: see "What is not configurable" in `docs/configuration.md`.
pub(crate) fn server_config(sites: Arc<Sites>) -> Result<Arc<ServerConfig>, rustls::Error> {
    // Its key exchange groups begin with X25519MLKEM768 (feature `prefer-post-quantum`).
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni { sites }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets instead of a cache: they work on every worker, and cost no memory and no lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // One, where rustls sends two: a browser that speaks HTTP/2 opens one connection, and each resumed connection brings
    // the next ticket. Who needs more can ask for them (RFC 9149).
    config.send_tls13_tickets = 1;
    config.max_tls13_tickets = 4;
    Ok(Arc::new(config))
}

/// Finds the certificate by the name that the client asks for. [`Handshaker`](crate::handshake::Handshaker) has refused
/// unknown names before, with the right alert.
struct BySni {
    sites: Arc<Sites>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let site = self.sites.find(client_hello.server_name()?)?;
        Some(Arc::clone(&site.certified_key))
    }
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BySni")
    }
}
