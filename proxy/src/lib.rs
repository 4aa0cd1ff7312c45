//! Reverse proxy that terminates TLS with keys that only the HSM engines hold.
//!
//! Each full handshake needs one signature. [`signer`](KeySource) asks an engine for it, on a fiber, so that the worker
//! goes on with other connections meanwhile; see the `handshake-fiber` crate. From there on it is a plain reverse
//! proxy: one single-threaded runtime for each core, nothing shared between them on the hot path.

mod body;
mod config;
mod connection;
mod forward;
mod headers;
mod respond;
mod shutdown;
mod sites;
mod upstream;

pub use config::{
    Config, ConfigError, HostPattern, HsmSettings, InvalidHost, InvalidUpstream, Limits, ProxySettings,
    SiteSettings, Timeouts, UpstreamUrl,
};
pub use connection::{ClientConnection, Handshake, Protocol};
pub use shutdown::{Shutdown, ShutdownHandle};
pub use sites::{Handler, Site, Sites, Upstream};
