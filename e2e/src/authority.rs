//! A certificate authority that speaks ACME: Debian's `pebble`, with the small DNS server that it asks.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificate::self_signed;
use crate::{Program, address, run, tool};

/// The programs that it takes.
#[derive(Debug)]
pub struct AuthorityTools {
    pebble: PathBuf,
    dns: PathBuf,
    openssl: PathBuf,
    curl: PathBuf,
}

impl AuthorityTools {
    /// `None` if one is not installed, as for [`tool::find`].
    pub fn find() -> Option<Self> {
        let [pebble, dns, openssl, curl] =
            tool::find_all(["pebble", "pebble-challtestsrv", "openssl", "curl"])?;
        Some(Self { pebble, dns, openssl, curl })
    }
}

/// How the authority is.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityOptions {
    /// Where it looks for HTTP-01.
    pub http_port: u16,
    /// Where it looks for TLS-ALPN-01.
    pub tls_port: u16,
    /// How long its certificates live, in seconds.
    pub lifetime: u32,
    /// How many of a hundred good nonces it refuses.
    pub bad_nonces: u8,
    /// The longest that it takes for a validation, in seconds; none at all with 0.
    pub slowness: u8,
}

/// A running authority; its names' addresses are all 127.0.0.1 until it is told otherwise.
#[derive(Debug)]
pub struct Authority {
    tools: AuthorityTools,
    directory: PathBuf,
    address: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    dns_management: SocketAddr,
    options: AuthorityOptions,
    _dns: Program,
    pebble: Option<Program>,
}

impl Authority {
    /// Prepares it, with its files in `directory`; it does not listen yet.
    ///
    /// # Panics
    ///
    /// If it can't be prepared.
    pub fn prepare(tools: AuthorityTools, directory: &Path, options: AuthorityOptions) -> Self {
        let [address, management, dns, dns_management] = address::free();
        let (key, certificate) = self_signed(&tools.openssl, directory, "acme");
        let configuration = serde_json::json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": options.http_port,
            "tlsPort": options.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": true,
            "externalAccountMACKeys": { "kid-1": MAC_KEY },
            "certificateValidityPeriod": options.lifetime,
        }});
        std::fs::write(directory.join("pebble.json"), configuration.to_string()).expect("a directory");
        let mut command = Command::new(&tools.dns);
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-dns01"]);
        command.arg(dns.to_string()).arg("-management").arg(dns_management.to_string());
        let log = File::create(directory.join("dns.log")).expect("a directory");
        command.stderr(log.try_clone().expect("a file")).stdout(log);
        let dns_server = Program::start(&mut command);
        let directory = directory.to_owned();
        let authority = Self {
            tools,
            directory,
            address,
            management,
            dns,
            dns_management,
            options,
            _dns: dns_server,
            pebble: None,
        };
        address::await_port("the DNS server", dns_management);
        authority
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// If it doesn't listen in time.
    pub fn start(&mut self) {
        let mut command = Command::new(&self.tools.pebble);
        command.arg("-config").arg(self.directory.join("pebble.json"));
        command.arg("-dnsserver").arg(self.dns.to_string());
        command
            .env("PEBBLE_WFE_NONCEREJECT", self.options.bad_nonces.to_string())
            .env("PEBBLE_AUTHZREUSE", "0");
        match self.options.slowness {
            0 => command.env("PEBBLE_VA_NOSLEEP", "1"),
            seconds => command.env("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
        };
        let log = File::create(self.directory.join("pebble.log")).expect("a directory");
        command.stderr(log.try_clone().expect("a file")).stdout(log);
        self.pebble = Some(Program::start(&mut command));
        address::await_port("the authority", self.address);
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.pebble = None;
    }

    /// What `[acme]` says of it.
    pub fn settings(&self) -> String {
        let key = self.directory.join("eab-key");
        if !key.exists() {
            crate::write_private(&key, &format!("{MAC_KEY}\n"));
        }
        format!(
            "[acme]\ndirectory = \"https://localhost:{}/dir\"\nterms-agreed = true\ncontact = [\"mailto:ops@a.example\"]\n\
             ca = \"{ca}\"\nstate-dir = \"{directory}/acme\"\nretry = \"1s\"\neab-kid = \"kid-1\"\neab-key-file = \"{key}\"\n",
            self.address.port(),
            ca = self.directory.join("acme.pem").display(),
            directory = self.directory.display(),
            key = key.display(),
        )
    }

    /// The root of its certificates, in a file; another one each time that it is started.
    ///
    /// # Panics
    ///
    /// If it doesn't say.
    #[track_caller]
    pub fn root(&self) -> PathBuf {
        let (root, url) = (
            self.directory.join("acme-root.pem"),
            format!("https://localhost:{}/roots/0", self.management.port()),
        );
        let mut curl = Command::new(&self.tools.curl);
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--cacert"]);
        std::fs::write(&root, run(curl.arg(self.directory.join("acme.pem")).arg(url)).success())
            .expect("a directory");
        root
    }

    /// Lets a name have this address; its own again without one.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn let_name_have(&self, name: &str, address: Option<&str>) {
        let (path, content) = match address {
            Some(address) => ("add-a", serde_json::json!({ "host": name, "addresses": [address] })),
            None => ("clear-a", serde_json::json!({ "host": name })),
        };
        let url = format!("http://{}/{path}", self.dns_management);
        let mut curl = Command::new(&self.tools.curl);
        curl.args([
            "--silent",
            "--fail",
            "--max-time",
            "60",
            "--noproxy",
            "*",
            "--data",
            &content.to_string(),
            &url,
        ]);
        run(&mut curl).success();
    }
}

/// Of the account at the authority, in base64url.
const MAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
