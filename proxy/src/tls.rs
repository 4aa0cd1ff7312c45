//! What the proxy speaks in TLS, and with which certificate.

mod certificates;
mod client_auth;
mod policy;
mod tickets;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};

pub use certificates::{Certificates, NeverChosen};
pub use client_auth::{ClientAuth, ClientAuthError, ClientCertificates};
pub use policy::{MinTls, TlsPolicy};
pub use tickets::TicketKeySource;
pub(crate) use tickets::TicketKeys;

use crate::handshake;
use crate::sites::{Site, Sites};

/// How TLS is spoken: one for the process, shared by all workers; its session tickets are good on each of them.
///
/// TLS 1.2 is never on without 1.3: see "What is not configurable" in `docs/configuration.md`.
pub(crate) struct Tls {
    by_policy: HashMap<TlsPolicy, Configs>,
}

/// How TLS is spoken by sites that demand the same.
struct Configs {
    /// Takes the first cipher suite of [`SUITES`] that the client has.
    by_our_order: Arc<ServerConfig>,
    /// Takes the client's first. Differs from the other in nothing else.
    by_their_order: Arc<ServerConfig>,
}

/// Cheapest first, where AES and SHA-256 are instructions of the processor. The schedule of a TLS 1.3 handshake is some
/// thirty HMACs: with SHA-384, for which there are no instructions, they cost a third of what the proxy does for it.
const SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

impl Tls {
    /// TLS for these sites, and tickets with these keys.
    pub(crate) fn new(sites: &Arc<Sites>, tickets: &Arc<TicketKeys>) -> Result<Self, rustls::Error> {
        let mut by_policy = HashMap::new();
        for site in sites.iter() {
            if !by_policy.contains_key(&site.policy) {
                let configs = Configs::new(&site.policy, Arc::clone(sites), tickets.ticketer(&site.policy))?;
                by_policy.insert(site.policy.clone(), configs);
            }
        }
        Ok(Self { by_policy })
    }

    /// The configuration for a client of a site; `None` if the site is none of those that it was made with.
    pub(crate) fn for_client(&self, hello: &ClientHello<'_>, site: &Site) -> Option<Arc<ServerConfig>> {
        self.by_policy.get(&site.policy).map(|configs| configs.for_client(hello))
    }
}

impl Configs {
    fn new(
        policy: &TlsPolicy,
        sites: Arc<Sites>,
        ticketer: Arc<dyn ProducesTickets>,
    ) -> Result<Self, rustls::Error> {
        // The key exchange groups begin with X25519MLKEM768 (feature `prefer-post-quantum`).
        let provider = CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() };
        let verifier = policy
            .client_certificates
            .as_ref()
            .map_or_else(WebPkiClientVerifier::no_client_auth, |clients| clients.verifier());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(policy.min_version.versions())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(BySni { sites }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets instead of a cache: they work on every worker, and cost no memory and no lock.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ticketer;
        // One, where rustls sends two: a browser that speaks HTTP/2 opens one connection, and each resumed connection
        // brings the next ticket. Who needs more can ask for them (RFC 9149).
        config.send_tls13_tickets = 1;
        config.max_tls13_tickets = 4;
        let by_their_order = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Self { by_our_order: Arc::new(config), by_their_order })
    }

    /// The configuration for a client. One that puts ChaCha20-Poly1305 first is a processor without AES instructions:
    /// its order counts, where otherwise ours does.
    fn for_client(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        use rustls::CipherSuite::{
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            TLS13_CHACHA20_POLY1305_SHA256,
        };
        // RFC 8701: the first may be one that means nothing.
        let first = hello.cipher_suites().iter().find(|suite| suite.as_str().is_some());
        let config = match first {
            Some(
                TLS13_CHACHA20_POLY1305_SHA256
                | TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ) => &self.by_their_order,
            _ => &self.by_our_order,
        };
        Arc::clone(config)
    }
}

/// Finds the certificate by the name that the client asks for. [`Handshaker`](crate::handshake::Handshaker) has refused
/// unknown names before, with the right alert.
struct BySni {
    sites: Arc<Sites>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let site = self.sites.for_sni(client_hello.server_name())?;
        if site.certificates.lookup().is_some() {
            // What the handshake has found before.
            return handshake::current()?.certificate.clone();
        }
        site.certificates.for_client(client_hello.signature_schemes()).cloned()
    }
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BySni")
    }
}
