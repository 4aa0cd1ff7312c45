use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::host::HostPattern;
use super::network::Network;

/// `[proxy]`: sockets and threads.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProxySettings {
    /// Addresses to accept TLS connections on. Port 0 takes any free one, for tests.
    #[schemars(with = "Vec<String>")]
    pub listen: Vec<SocketAddr>,
    /// Addresses to accept plain HTTP on, only to send clients to HTTPS.
    #[schemars(with = "Vec<String>")]
    pub redirect_listen: Vec<SocketAddr>,
    /// The port that they are sent to.
    pub redirect_port: u16,
    /// Addresses and networks of load balancers whose connections begin with a PROXY header, and are believed.
    pub accept_proxy_protocol_from: Vec<Network>,
    /// Worker threads; 0 means one for each core.
    pub workers: usize,
    /// Where to write the process id; not at all if absent.
    pub pid_file: Option<PathBuf>,
    /// Where to serve the status page, `/healthz`, `/readyz` and `/metrics` in plain HTTP; not at all if absent.
    #[schemars(with = "Option<String>")]
    pub admin_listen: Option<SocketAddr>,
    /// Names that the admin listener shows itself under, besides IP addresses and `localhost`.
    #[schemars(with = "Vec<String>")]
    pub admin_hosts: Vec<HostPattern>,
}

impl ProxySettings {
    /// All addresses that clients connect to, and what is spoken there.
    pub(crate) fn entrances(&self) -> impl Iterator<Item = (SocketAddr, Entrance)> {
        let tls = self.listen.iter().map(|&address| (address, Entrance::Tls));
        tls.chain(self.redirect_listen.iter().map(|&address| (address, Entrance::Redirect)))
    }
}

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// TLS.
    Tls,
    /// HTTP in plain text, to be sent to HTTPS.
    Redirect,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8443))],
            redirect_listen: Vec::new(),
            redirect_port: 443,
            accept_proxy_protocol_from: Vec::new(),
            workers: 0,
            pid_file: None,
            admin_listen: None,
            admin_hosts: Vec::new(),
        }
    }
}
