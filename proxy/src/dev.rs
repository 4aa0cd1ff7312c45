//! `hsm-proxy dev`: the whole product in one directory, for trying it out and for tests.
//!
//! The first run makes a cluster, its users, a CA and a key for `localhost`, all inside the engines; later runs reuse
//! them. The engines run as children and end when this process does, however it ends.

mod engines;
mod error;
mod greeting;
mod page;
mod provision;
mod state;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keycore_client::EngineAddress;

use crate::config::{
    Config, Destination, HostPattern, HsmSettings, Limits, ProxySettings, SiteSettings, Timeouts, UpstreamUrl,
};
use crate::proxy::Proxy;
use crate::signer::EngineKeys;
use engines::Engines;
pub(crate) use error::DevError;
use state::StateDir;

/// How long open connections may hold up Ctrl-C.
const DRAIN: Duration = Duration::from_secs(3);

/// Enough for any load from one machine, within the file limits of most.
const CONNECTIONS: usize = 2_000;

/// What `hsm-proxy dev` was asked for.
#[derive(Debug, Clone)]
pub(crate) struct DevOptions {
    /// Upstream; the built-in page if none.
    pub(crate) to: Option<UpstreamUrl>,
    /// Where to listen; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Where everything is kept.
    pub(crate) state_dir: PathBuf,
    /// How many engines.
    pub(crate) replicas: u16,
}

/// Starts everything, serves until SIGTERM or SIGINT, and stops everything.
///
/// # Errors
///
/// [`DevError`], before anything is served; the engines are stopped then too.
pub(crate) fn run(options: &DevOptions) -> Result<(), DevError> {
    let state = StateDir::open(&options.state_dir)?;
    is_free(options.listen)?;
    let engines = Engines::start(&state, options.replicas)?;
    let certificate = provision::provision(&state, &engines)?;

    let config = configuration(options, &state, &engines)?;
    let keys = EngineKeys::from_settings(&config.hsm, config.timeouts.sign).map_err(DevError::proxy)?;
    let mut builder = Proxy::builder(config, Arc::new(keys));
    if options.to.is_none() {
        builder = builder.handler("localhost", page::handler(options.replicas, state.run()));
    }
    let proxy = builder.bind().map_err(DevError::proxy)?;

    let address = proxy.local_addresses().first().copied().unwrap_or(options.listen);
    let greeting = greeting::Greeting {
        address,
        admin: proxy.admin_address(),
        options,
        state: &state,
        engines: &engines,
        certificate: &certificate,
    };
    let served = proxy.run(|| greeting.print()).map_err(DevError::proxy);
    engines.stop();
    served
}

/// Before engines are started and a cluster is made for nothing. Also taken is what another proxy listens on with
/// `SO_REUSEPORT`: this listener has not got it.
fn is_free(address: SocketAddr) -> Result<(), DevError> {
    TcpListener::bind(address).map(drop).map_err(|source| DevError::Listen { address, source })
}

fn configuration(options: &DevOptions, state: &StateDir, engines: &Engines) -> Result<Config, DevError> {
    let to = match &options.to {
        Some(to) => Destination::Server(to.clone()),
        // Requests go to the built-in page, and there is no upstream of this name.
        None => Destination::Upstream("built-in".parse().map_err(DevError::proxy)?),
    };
    let host: HostPattern = "localhost".parse().map_err(DevError::proxy)?;
    Ok(Config {
        proxy: ProxySettings {
            listen: vec![options.listen],
            pid_file: Some(state.run().join("proxy.pid")),
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..ProxySettings::default()
        },
        hsm: HsmSettings {
            engines: engines.sockets().iter().cloned().map(EngineAddress::Unix).collect(),
            user: provision::WEB_USER.parse().map_err(DevError::proxy)?,
            password_file: Some(state.password_file(provision::WEB_USER)),
            ..HsmSettings::default()
        },
        sites: vec![SiteSettings::new(vec![host], vec![state.certificate()], to)],
        timeouts: Timeouts { drain: DRAIN, ..Timeouts::default() },
        limits: Limits { connections: CONNECTIONS, ..Limits::default() },
        ..Config::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_proxys_port_is_not_shared() {
        let other = crate::listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        let taken = other[0].local_addr().unwrap();
        assert!(matches!(is_free(taken), Err(DevError::Listen { address, .. }) if address == taken));
        drop(other);
        is_free(taken).unwrap();
    }
}
