//! Reverse proxy that terminates TLS with keys that only the HSM engines hold.
//!
//! Each full handshake needs one signature. [`signer`](KeySource) asks an engine for it, on a fiber, so that the worker
//! goes on with other connections meanwhile; see the `handshake-fiber` crate. From there on it is a plain reverse
//! proxy: one single-threaded runtime for each core, nothing shared between them on the hot path.

mod abuse;
mod access_log;
mod acme;
mod admin;
mod body;
mod capacity;
mod certificate_directory;
mod certificate_files;
mod chain;
mod check;
pub mod cli;
mod client_identity;
mod clients;
mod compression;
mod config;
mod connection;
mod dev;
mod drill;
mod forward;
mod generation;
mod hand_over;
mod handshake;
mod headers;
mod http_policy;
mod journal;
mod keys;
mod listener;
mod metrics;
mod notify;
mod ocsp;
mod one_request;
mod passthrough;
mod process;
mod proxy;
mod proxy_protocol;
mod relay;
mod reload;
mod respond;
mod routes;
mod shutdown;
mod signer;
mod sites;
mod slices;
mod status;
mod throttle;
mod tls;
mod traces;
mod upgrade;
mod upstream;
mod views;
mod worker;

pub use acme::CertificateKeys;
pub use chain::{Chain, ChainError};
pub use check::{Report, SiteReport, check};
pub use client_identity::ClientIdentity;
pub use compression::{Coding, Compression};
pub use config::{
    AcmeKeyType, AcmeSettings, AcmeUrl, AddedField, Balance, CertificateSource, ChallengeKind, CollectorUrl,
    Config, ConfigError, Contact, CookieName, Destination, HashBy, HealthCheck, HealthStatus, HostPattern,
    HsmSettings, Hsts, InvalidAcmeUrl, InvalidCollectorUrl, InvalidField, InvalidHost, InvalidNetwork,
    InvalidPassthroughTarget, InvalidRate, InvalidRoutePath, InvalidUpstream, InvalidUpstreamName, Limits,
    LogFormat, LogSettings, Network, PassthroughSettings, PassthroughTarget, ProxyProtocol, ProxySettings,
    Rate, RemovedField, RoutePath, RouteSettings, Share, SiteSettings, Timeouts, TlsName, TlsPreset,
    TlsSettings, TraceSettings, UpstreamName, UpstreamPlace, UpstreamScheme, UpstreamSettings, UpstreamUrl,
};
pub use connection::{ClientConnection, Handshake, Protocol};
pub use http_policy::{ErrorPageError, HttpPolicy};
pub use keys::{Asked, KeyError, KeySource, SignerStatus, SigningCounts, TicketSecret, TicketSecretError};
pub use proxy::{Proxy, ProxyBuilder, RunError, StartError};
pub use reload::Reloader;
pub use routes::{Route, Routes};
pub use shutdown::{Shutdown, ShutdownHandle};
pub use signer::{EngineKeys, EngineSigningKey, SettingsError};
pub use sites::{Handler, Site, Sites, Upstream};
pub use tls::{
    Certificates, ClientAuth, ClientAuthError, ClientCertificates, MinTls, NeverChosen, TicketKeySource,
    TlsPolicy,
};
pub use traces::TracesError;
pub use upstream::{ServerGroup, TrustError};
